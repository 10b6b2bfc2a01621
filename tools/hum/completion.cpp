// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/completion.h"

#include <CLI/CLI.hpp>
#include <vector>

#include "vmm/base/errors.h"

namespace hum {
namespace {

// One subcommand path ("", "run", "kernel get") and the words that may follow it.
struct Level {
  std::string path;
  std::vector<std::string> words;
};

void collect(const CLI::App& app, const std::string& path, std::vector<Level>& levels) {
  Level level{path, {}};
  for (const CLI::App* const sub : app.get_subcommands([](const CLI::App*) { return true; }))
    level.words.push_back(sub->get_name());
  for (const CLI::Option* const option : app.get_options())
    for (const std::string& name : option->get_lnames()) level.words.push_back("--" + name);
  levels.push_back(level);
  for (const CLI::App* const sub : app.get_subcommands([](const CLI::App*) { return true; }))
    collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), levels);
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string bash_script(const std::vector<Level>& levels) {
  std::string script =
      "_hum() {\n"
      "  local word=\"${COMP_WORDS[COMP_CWORD]}\" path='' words='' i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case \"${COMP_WORDS[i]}\" in\n"
      "      --) COMPREPLY=(); return ;;\n"
      "      -*) ;;\n"
      "      *) case \"${path:+$path }${COMP_WORDS[i]}\" in\n";
  for (const Level& level : levels)
    if (!level.path.empty()) script += "           '" + level.path + "') path='" + level.path + "' ;;\n";
  script += "         esac ;;\n    esac\n  done\n  case \"$path\" in\n";
  for (const Level& level : levels)
    script += "    '" + level.path + "') words='" + join(level.words) + "' ;;\n";
  script +=
      "  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
      "}\n"
      "complete -o default -F _hum hum\n";
  return script;
}

std::string fish_script(const std::vector<Level>& levels) {
  std::string script;
  for (const Level& level : levels) {
    const std::string condition =
        level.path.empty() ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " + level.path;
    for (const std::string& word : level.words) {
      const bool option = word.starts_with("--");
      script += "complete -c hum -n '" + condition + "' " +
                (option ? "-l " + word.substr(2) : "-f -a " + word) + "\n";
    }
  }
  return script;
}

}  // namespace

std::string completion_script(const CLI::App& app, std::string_view shell) {
  std::vector<Level> levels;
  collect(app, "", levels);
  if (shell == "bash") return bash_script(levels);
  if (shell == "zsh") return "autoload -U +X bashcompinit && bashcompinit\n" + bash_script(levels);
  if (shell == "fish") return fish_script(levels);
  throw ConfigError("completion", std::string(shell), "unknown shell", "give bash, zsh or fish");
}

}  // namespace hum
