// SPDX-License-Identifier: Apache-2.0
//
// `hum vm` and `hum events` as the programs that they are, with the daemon that they ask.
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/humd/command_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using nlohmann::json;
using namespace testing;

std::string exit_of(const CommandDaemon& daemon, const Words& words) {
  const ProcessResult result = daemon.hum(words);
  CHECK(result.errors == "");
  return std::to_string(result.exit_code) + " " + result.output;
}

// The fields that the description of the API has for one of its objects.
std::set<std::string> documented(const std::string& object) {
  std::ifstream file(HUM_API_FILE);
  const json schema = json::parse(file)["components"]["schemas"][object]["required"];
  return schema.get<std::set<std::string>>();
}

std::set<std::string> fields_of(const json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) names.insert(name);
  return names;
}

json inspected(const CommandDaemon& daemon, const std::string& name) {
  return json::parse(daemon.said({"vm", "inspect", name}));
}

// How a shell's completion goes on with the last word.
std::string completed(const CommandDaemon& daemon, const std::string& line) {
  const std::string script = "shopt -s expand_aliases; hum() { " HUM_PROGRAM
                             " \"$@\"; }; source <(hum completion bash); COMP_WORDS=(" +
                             line +
                             "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _hum; echo \"${COMPREPLY[@]}\"";
  const ProcessResult result =
      run_process({"env", "HUM_SOCKET=" + daemon.place().folders().socket(), "bash", "-c", script});
  CHECK(result.errors == "");
  return result.output;
}

}  // namespace

TEST_CASE("hum vm create, start, ls, stop and rm tell names, and a list has a row for each VM") {
  const CommandDaemon daemon;
  CHECK(daemon.said({"vm", "ls"}) == "NAME  STATE  CPUS  MEMORY  PID  RUNS FOR  LAST END\n");
  CHECK(daemon.create("web", {"--memory", "1G", "--cpus", "2"}) == "web\n");
  CHECK(daemon.create("job") == "job\n");
  CHECK(daemon.said({"vm", "start", "web"}) == "web\n");
  const std::string pid = std::to_string(inspected(daemon, "web")["pid"].get<int>());
  const std::string list = daemon.said({"vm", "ls"});
  CHECK(has(list, "\njob   stopped  1     256M    -"));
  CHECK(has(list, "\nweb   running  2     1G      " + pid + "  "));
  CHECK(daemon.said({"vm", "ls", "--state", "running", "-q"}) == "web\n");
  CHECK(daemon.said({"vm", "ls", "-q"}) == "job\nweb\n");
  CHECK(daemon.said({"vm", "pause", "web"}) == "web\n");
  CHECK(daemon.said({"vm", "ls", "--state", "paused", "-q"}) == "web\n");
  CHECK(daemon.said({"vm", "resume", "web"}) == "web\n");
  CHECK(daemon.said({"vm", "restart", "--timeout", "0", "web"}) == "web\n");
  CHECK(inspected(daemon, "web")["state"] == "running");
  CHECK(daemon.said({"vm", "stop", "web"}) == "web\n");
  CHECK(has(daemon.said({"vm", "ls"}), "\nweb   stopped  2     1G      -    -         reboot"));
  CHECK(daemon.said({"vm", "rm", "web", "job"}) == "web\njob\n");
  CHECK(daemon.said({"vm", "ls", "-q"}) == "");
}

TEST_CASE("the output of --json has the fields that the API's description has, and nothing else") {
  const CommandDaemon daemon;
  CHECK(daemon.said({"vm", "ls", "--json"}) == "[]\n");
  const json made = json::parse(daemon.create("web", {"--json", "--label", "a=b"}));
  CHECK(fields_of(made) == documented("Operation"));
  CHECK(made["state"] == "done");
  const json listed = json::parse(daemon.said({"vm", "ls", "--json"}));
  REQUIRE(listed.size() == 1);
  CHECK(fields_of(listed[0]) == documented("Vm"));
  CHECK(listed[0]["spec"]["labels"]["a"] == "b");
  std::set<std::string> of_one = documented("Vm");
  of_one.insert({"addresses", "limits_not_held"});
  CHECK(fields_of(inspected(daemon, "web")) == of_one);
  CHECK(json::parse(daemon.said({"vm", "inspect", "web", "web"})).size() == 2);
  CHECK(json::parse(daemon.said({"project", "ls", "--json"})) == json::array());
  CHECK(json::parse(daemon.said({"vm", "capacity", "--json"})).contains("fit"));
  CHECK(daemon.said({"vm", "ls", "--format", "json"}) == daemon.said({"vm", "ls", "--json"}));
  CHECK(daemon.said({"vm", "ls", "--format", "table"}) == daemon.said({"vm", "ls"}));
  CHECK(has(daemon.refused({"vm", "ls", "--format", "yaml"}), "yaml not in {table,json}"));
}

TEST_CASE("hum vm run -d starts a VM, logs, stats and wait tell of it") {
  const CommandDaemon daemon;
  CHECK(daemon.said({"vm", "run", "web", "-d", "--kernel", "/no/kernel", "--net", "none"}) == "web\n");
  CHECK(json::parse(daemon.said({"vm", "stats", "web"})).contains("uptime_seconds"));
  CHECK(daemon.said({"vm", "logs", "web"}) == "");
  CHECK(daemon.said({"vm", "logs", "--of", "vmm", "web"}) == "");
  CHECK(exit_of(daemon, {"vm", "wait", "web", "--for", "running"}) == "0 ");
  CHECK(exit_of(daemon, {"vm", "wait", "web", "--timeout", "0"}) == "124 ");
  CHECK(daemon.said({"vm", "kill", "web"}) == "web\n");
  CHECK(exit_of(daemon, {"vm", "wait", "web"}) == "0 ");
  CHECK(has(daemon.refused({"vm", "stats", "web"}), "hum: the VM 'web' does not run"));
  daemon.create("job", {"--cmdline", "fake=exit-code:7"});
  daemon.hum({"vm", "start", "job"});
  CHECK(exit_of(daemon, {"vm", "wait", "job"}) == "7 ");
  CHECK(has(daemon.said({"vm", "ls"}), "debug-exit 7\n"));
}

TEST_CASE("hum vm update says what counts from the next start on, and changes nothing in a dry run") {
  const CommandDaemon daemon;
  daemon.create("web");
  CHECK(daemon.said({"vm", "update", "web", "--set", "cpus=2", "--dry-run"}) == "");
  CHECK(inspected(daemon, "web")["spec"]["cpus"] == 1);
  CHECK(daemon.said({"vm", "update", "web", "--set", "cpus=2", "--set", "restart=always"}) == "");
  CHECK(inspected(daemon, "web")["spec"]["cpus"] == 2);
  CHECK(inspected(daemon, "web")["spec"]["restart"] == "always");
  CHECK(daemon.said({"vm", "start", "web"}) == "web\n");
  CHECK(daemon.said({"vm", "update", "web", "--set", "memory_mib=512", "--set", "autostart=true"}) ==
        "memory_mib: from the next start on\n");
  CHECK(has(daemon.refused({"vm", "update", "web", "--set", "memory=512"}), "vm.memory: unknown field"));
  CHECK(daemon.refused({"vm", "update", "web", "--set", "cpus"}) ==
        "hum: set 'cpus': no change; give FIELD=JSON, like cpus=2\n");
}

TEST_CASE("a VM is renamed, also while it runs, and not to a name that is none or another's") {
  const CommandDaemon daemon;
  daemon.create("web");
  daemon.create("job");
  daemon.said({"vm", "start", "web"});
  const json before = inspected(daemon, "web");
  CHECK(daemon.said({"vm", "rename", "web", "www"}) == "www\n");
  const json after = inspected(daemon, "www");
  CHECK(after["id"] == before["id"]);
  CHECK(after["pid"] == before["pid"]);
  CHECK(daemon.refused({"vm", "inspect", "web"}) == "hum: there is no VM 'web'\n");
  CHECK(has(daemon.refused({"vm", "rename", "www", "job"}), "a VM of the name 'job' is there already"));
  CHECK(has(daemon.refused({"vm", "rename", "www", "Www"}), "hum: name 'Www': no name; give up to 63"));
  CHECK(daemon.refused({"vm", "rename", "web", "other"}) == "hum: there is no VM 'web'\n");
  CHECK(has(daemon.refused({"vm", "rename", "www"}), "NEW: no value is given"));
  CHECK(daemon.said({"vm", "ls", "-q"}) == "job\nwww\n");
}

TEST_CASE("a command for many VMs goes on behind one that is refused, and tells by its exit code") {
  const CommandDaemon daemon;
  daemon.create("one");
  daemon.create("two");
  for (const char* const verb : {"start", "kill", "rm"}) {
    const ProcessResult result = daemon.hum({"vm", verb, "one", "none", "two"});
    CHECK(result.exit_code == 2);
    CHECK(result.output == "one\ntwo\n");
    CHECK(result.errors == "hum: none: there is no VM 'none'\n");
  }
}

TEST_CASE("a wrong name, number or option is refused with what is accepted, and nothing is made") {
  const CommandDaemon daemon;
  const auto refused = [&](const Words& more) {
    Words words = {"vm", "create", "--kernel", "/no/kernel", "--net", "none"};
    words.insert(words.end(), more.begin(), more.end());
    return daemon.refused(words);
  };
  CHECK(has(refused({"Web"}), "hum: name 'Web': no name; give up to 63 of a-z"));
  CHECK(has(refused({}), "NAME: no value is given (of the VM); see 'hum vm create --help'"));
  CHECK(refused({"web", "--cpus", "99"}) ==
        "hum: --cpus: Value 99 not in range 1 to 32; see 'hum vm create --help'\n");
  CHECK(has(refused({"web", "--memory", "lots"}), "hum: memory 'lots': not a size; give bytes"));
  CHECK(has(refused({"web", "--memory", "1536K"}), "hum: memory '1536K': no whole number of MiB"));
  CHECK(has(refused({"web", "--memory", "1M"}), "vm.memory_mib '1': not accepted"));
  CHECK(has(refused({"web", "--restart", "maybe"}), "--restart: maybe not in {no,on-failure,always}"));
  CHECK(has(refused({"web", "--label", "blue"}), "hum: label 'blue': no label; give NAME=VALUE"));
  CHECK(has(refused({"web", "--limit", "cpu"}), "hum: limit 'cpu': no limit; give one of cpu=PERCENT"));
  CHECK(has(refused({"web", "--device", "toaster"}), "device 'toaster': no kind of device"));
  CHECK(refused({"web", "--net", "blue"}) == "hum: there is no network 'blue'\n");
  CHECK(refused({"web", "--bogus"}) == "hum: --bogus: there is no such option; see 'hum vm create --help'\n");
  CHECK(has(daemon.refused({"vm", "bogus"}), "command 'bogus': there is no such command; give run, create,"));
  CHECK(has(daemon.refused({"vm"}), "hum: command: none is given; give run, create,"));
  CHECK(daemon.said({"vm", "ls", "-q"}) == "");
  daemon.create("web");
  CHECK(refused({"web"}) == "hum: a VM of the name 'web' is there already; give another name\n");
  CHECK(daemon.refused({"vm", "logs", "none"}) == "hum: there is no VM 'none'\n");
  CHECK(daemon.refused({"vm", "wait", "none"}) == "hum: there is no VM 'none'\n");
  CHECK(has(daemon.refused({"vm", "wait", "web", "--for", "tea"}), "--for: tea not in"));
  CHECK(has(daemon.refused({"vm", "logs", "web", "--of", "tea"}), "--of: tea not in"));
}

TEST_CASE("without a daemon a command says how to start one, and starts none that is not wanted") {
  const TemporaryFolder place;
  const std::string socket = place / "humd.sock";
  for (const Words& words :
       {Words{"vm", "ls"}, Words{"image", "ls"}, Words{"events"}, Words{"project", "ls"}}) {
    Words all = {HUM_PROGRAM};
    all.insert(all.end(), words.begin(), words.end());
    all.insert(all.end(), {"--no-start", "--socket", socket});
    const ProcessResult result = run_process(all);
    CHECK(result.exit_code == 2);
    CHECK(result.output == "");
    CHECK(result.errors == "hum: cannot reach the daemon at '" + socket +
                               "' (start it with 'humd'): No such file or directory\n");
  }
}

TEST_CASE("names of VMs and of what else there is are completed, and no daemon is needed for the rest") {
  CommandDaemon daemon;
  daemon.create("web");
  daemon.create("job");
  daemon.said({"volume", "create", "data", "--size", "1M"});
  CHECK(has(completed(daemon, "hum vm start ''"), "job web\n"));
  CHECK(completed(daemon, "hum vm rename w") == "web\n");
  CHECK(completed(daemon, "hum vm logs --o") == "--of\n");
  CHECK(completed(daemon, "hum volume rm d") == "data\n");
  CHECK(completed(daemon, "hum vm ren") == "rename\n");
  daemon.end();
  CHECK(completed(daemon, "hum vm rename w") == "\n");
  CHECK(completed(daemon, "hum vm inspect --no-s") == "\n");
}

TEST_CASE("a reader that goes away ends a command without a word, and output that is lost is an error") {
  const CommandDaemon daemon;
  for (char name = 'a'; name < 'e'; ++name) daemon.create(std::string(1, name));
  std::string line;
  for (const std::string& word : daemon.command({"vm", "ls", "--json"})) line += word + " ";
  const ProcessResult closed = run_process({"bash", "-c", line + " | exec 0<&-; echo ${PIPESTATUS[0]}"});
  CHECK(closed.errors == "");
  CHECK((closed.output == "141\n" || closed.output == "0\n"));  // it may have been read before
  const ProcessResult full = run_process({"bash", "-c", line + " > /dev/full"});
  CHECK(full.exit_code == 2);
  CHECK(full.errors == "hum: cannot write to standard output: No space left on device\n");
}

TEST_CASE("hum events tells what happens as it happens, as lines or as JSON, until its reader goes") {
  const CommandDaemon daemon;
  daemon.create("web");
  std::string line;
  for (const std::string& word : daemon.command({"events"})) line += word + " ";
  const ProcessResult words = run_process({"timeout", "20", "bash", "-c", line + "| head -n 1"});
  CHECK(words.output == "vm.created id=1 vm=web\n");
  const ProcessResult lines =
      run_process({"timeout", "20", "bash", "-c", line + "--json | head -n 2 | tail -n 1"});
  const json event = json::parse(lines.output);
  CHECK(event["type"] == "operation.ended");
  CHECK(event["data"]["vm"] == "web");
  CHECK(event["data"]["kind"] == "create");
}

TEST_CASE("there is no colour and no progress, on a terminal or off it, but where something takes long") {
  const CommandDaemon daemon;
  const auto plain = [](const std::string& text) { return !has(text, "\033"); };
  daemon.create("web");
  for (const Words& words : {Words{"vm", "start", "web"}, Words{"vm", "ls"}, Words{"vm", "--help"},
                             Words{"vm", "stop", "web"}, Words{"volume", "create", "v", "--size", "1M"}}) {
    const ProcessResult result = daemon.hum(words);
    CHECK(plain(result.output + result.errors));
  }
  const TerminalResult seen = on_terminal(daemon.command({"vm", "ls"}), "", "");
  CHECK(seen.exit_code == 0);
  CHECK(plain(seen.output));
  CHECK(has(seen.output, "web   stopped"));
}

}  // namespace hum
