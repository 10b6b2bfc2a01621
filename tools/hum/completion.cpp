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
  std::string names;  // the command that lists what else may follow; empty: nothing does
};

// What a command wants the name of: objects that the daemon keeps.
std::string command_for(const std::string& positional) {
  for (const char* const type : {"vm", "image", "volume", "network", "project"}) {
    std::string upper(type);
    for (char& each : upper) each = static_cast<char>(std::toupper(static_cast<unsigned char>(each)));
    if (positional == upper) return std::string("hum ") + type + " ls -q --no-start 2>/dev/null";
  }
  return {};
}

void collect(const CLI::App& app, const std::string& path, std::vector<Level>& levels) {
  Level level{path, {}, {}};
  for (const CLI::App* const sub : app.get_subcommands([](const CLI::App*) { return true; }))
    level.words.push_back(sub->get_name());
  for (const CLI::Option* const option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) level.words.push_back("--" + name);
    if (option->get_positional() && level.names.empty()) level.names = command_for(option->get_single_name());
  }
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
    script += "    '" + level.path + "') words='" + join(level.words) + "'" +
              (level.names.empty() ? "" : "\" $(" + level.names + ")\"") + " ;;\n";
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
    if (!level.names.empty())
      script += "complete -c hum -n '" + condition + "' -f -a '(" + level.names + ")'\n";
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
