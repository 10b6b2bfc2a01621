// SPDX-License-Identifier: Apache-2.0
//
// The power goes at every change that the daemon makes to its store, and the disk loses what was not synced.
// Whatever was under way is finished or undone by the next daemon, and what clients were told holds.
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/humd/crash_lives_testing.h"
#include "tools/humd/image_testing.h"
#include "tools/humd/sqlite_faults_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using namespace testing;

// What is in a state folder beside the store, as it was from time to time.
class Pictures {
 public:
  explicit Pictures(fs::path state) : state_(std::move(state)) {}

  // Of now, when there have been so many changes of the store.
  void take(std::size_t changes) {
    const fs::path picture = folder_ / std::to_string(taken_.size());
    for (;;) {
      try {
        const std::string now = list();
        if (now == last_) return;
        copy(state_, picture);
        if (list() == now) {
          taken_.emplace_back(changes, picture);
          last_ = now;
          return;
        }
      } catch (const fs::filesystem_error&) {
      }
      fs::remove_all(picture);  // work in the background has changed it meanwhile
    }
  }
  // As it was last when there had been so many.
  std::size_t index_at(std::size_t changes) const {
    std::size_t found = 0;
    for (std::size_t each = 0; each < taken_.size() && taken_[each].first <= changes; ++each) found = each;
    return found;
  }
  void put(std::size_t index, const fs::path& state) const { copy(taken_.at(index).second, state); }

 private:
  std::string list() const {
    std::string all;
    for (const auto& each : fs::recursive_directory_iterator(state_))
      if (!is_store(each.path()))
        all += each.path().string() + " " +
               std::to_string(each.last_write_time().time_since_epoch().count()) + "\n";
    return all;
  }
  static bool is_store(const fs::path& path) { return path.filename().string().starts_with("humd.db"); }
  static void copy(const fs::path& from, const fs::path& to) {
    fs::create_directories(to);
    for (const auto& each : fs::directory_iterator(from))
      if (!is_store(each.path()))
        fs::copy(each.path(), to / each.path().filename(), fs::copy_options::recursive);
  }

  fs::path state_;
  testing::TemporaryFolder folder_;
  std::string last_;
  std::vector<std::pair<std::size_t, fs::path>> taken_;
};

// A daemon's life as the disk has seen it, and what its clients said and were told.
struct Recording {
  struct Line {
    std::size_t changes;  // of the store, before it
    std::string text;
  };

  DaemonPlace place;
  Pictures pictures{place.folders().state};
  std::vector<DiskChange> changes;
  std::vector<Line> lines;

  // Up to a change of the store. What a client asked for since has changed nothing.
  std::vector<std::string> lines_before(std::size_t cut) const {
    std::vector<std::string> found;
    for (const Line& each : lines) {
      const bool asks = each.text.starts_with("begun delete ") || each.text.starts_with("removing ");
      if (each.changes < cut || (each.changes == cut && !asks)) found.push_back(each.text);
    }
    return found;
  }
};

std::unique_ptr<Recording> record(const Scenario& scenario) {
  auto recording = std::make_unique<Recording>();
  FaultyDisk disk;
  const auto changes = [&] { return disk.changes().size(); };
  disk.before_change([&] { recording->pictures.take(changes()); });
  const Say say = [&](const std::string& line) { recording->lines.push_back({changes(), line}); };
  {
    boost::asio::io_context context{1};
    ManagerSettings settings = recording->place.settings();
    settings.vfs = disk.name();
    settings.boot_id = "another";
    Manager manager(context, settings);
    bound_log(manager);
    const auto all = [&]() -> Task<> {
      co_await manager.recover();
      co_await scenario.run(manager, say);
    };
    run_coroutine(context, all());
  }
  recording->pictures.take(changes());
  recording->changes = disk.changes();
  return recording;
}

// Said before it is asked for: from then on it may be gone.
Task<> remove(Manager& manager, const Say& say, std::string name) {
  say("begun delete " + name);
  co_await act(manager, say, name, "delete", R"({"force": true})");
  if (!manager.vms().find(name)) say("deleted " + name);
}

Task<> machines(Manager& manager, const Say& say) {
  co_await create(manager, say, fake_vm("web"));
  co_await create(manager, say, fake_vm("keeper", {}, R"({"restart": "always"})"));
  for (const char* const kind : {"start", "pause", "resume"}) co_await act(manager, say, "web", kind);
  co_await act(manager, say, "keeper", "start");
  co_await create(manager, say, fake_vm("bad", "fake=die-at-start"));
  co_await act(manager, say, "bad", "start");
  co_await act(manager, say, "web", "restart", R"({"timeout_ms": 30, "again": true})");
  co_await act(manager, say, "web", "kill");
  say("begun delete web");
  const auto row = manager.vms().find("web");
  co_await manager.update(*row, fake_vm("site"));
  say("created site");
  for (const char* const name : {"bad", "site", "keeper"}) co_await remove(manager, say, name);
}

Task<> disks(Manager& manager, const Say& say) {
  const fs::path sources = manager.folders().state.parent_path();
  write_whole_file(sources / "kernel", some_kernel());
  write_whole_file(sources / "disk", some_bytes(16UL * 1024));
  const nlohmann::json image = {{"name", "base"}, {"kernel", sources / "kernel"}, {"disk", sources / "disk"}};
  co_await request(manager, say, "POST", "/v1/images", image.dump());
  co_await request(manager, say, "POST", "/v1/volumes", R"({"name": "data", "size_mib": 1})");
  co_await request(manager, say, "PATCH", "/v1/volumes/data", R"({"size_mib": 2})");
  co_await request(manager, say, "POST", "/v1/volumes", R"({"name": "top", "image": "base"})");
  co_await create(manager, say, fake_vm("web", {}, R"({"image": "base", "volumes": ["data"]})"));
  co_await request(manager, say, "DELETE", "/v1/images/base", "");
  co_await remove(manager, say, "web");
  for (const char* const name : {"top", "data"})
    co_await request(manager, say, "DELETE", std::string("/v1/volumes/") + name, "");
}

bool has(const std::vector<std::string>& lines, const std::string& line) {
  return std::find(lines.begin(), lines.end(), line) != lines.end();
}

bool is_long() {
  return std::getenv("HUM_LONG") != nullptr;
}

// What was not synced is lost wholly, not at all, or in part. How often the power went.
unsigned cut_everywhere(const Scenario& scenario) {
  const std::unique_ptr<Recording> recording = record(scenario);
  for (const Recording::Line& line : recording->lines) CHECK_FALSE(line.text.starts_with("wrong: "));
  std::mt19937 random(1);
  std::set<std::size_t> seen;
  unsigned cuts = 0;
  CachedDisk disk;
  for (std::size_t cut = 0; cut <= recording->changes.size(); ++cut) {
    if (cut > 0) disk.apply(recording->changes[cut - 1]);
    if (cut % crash_stride != 0) continue;
    const std::vector<std::string> before = recording->lines_before(cut);
    std::vector<Loss> losses = {Loss::all, Loss::none};
    if (is_long() || cut % 4 == 0) losses.push_back(Loss::torn_last);
    if (is_long() || cut % 4 == 2) losses.push_back(Loss::some);
    if (is_long()) losses.insert(losses.end(), 8, Loss::some);
    for (const Loss loss : losses) {
      const auto files = disk.after_cut(loss, random);
      const std::size_t picture = recording->pictures.index_at(loss == Loss::all && cut > 0 ? cut - 1 : cut);
      std::string what = std::to_string(before.size()) + " " + std::to_string(picture);
      for (const auto& [name, content] : files) what += " " + name + " " + content;
      if (!seen.insert(std::hash<std::string>()(what)).second) continue;
      const DaemonPlace place;
      recording->pictures.put(picture, place.folders().state);
      for (const auto& [name, content] : files) write_whole_file(place.folders().state / name, content);
      INFO(scenario.name << ", the power went after change " << cut << " of " << recording->changes.size()
                         << ", loss " << static_cast<int>(loss));
      const std::vector<std::string> after = recover(place, 0);
      check(before, after);
      CHECK((!has(before, "begun start keeper") || has(before, "begun delete keeper") ||
             has(after, "vm keeper running")));
      reap_orphans();
      ++cuts;
    }
  }
  std::printf("count: %u power cuts at %zu changes of the store: %s\n", cuts, recording->changes.size(),
              scenario.name);
  return cuts;
}

}  // namespace

TEST_CASE("a power cut at any write takes no VM that a client was told of, and leaves nothing half made") {
  CHECK(cut_everywhere({"VMs", machines}) >= 300 / crash_stride);
}

TEST_CASE("a power cut at any write takes no image and no volume that a client was told of") {
  CHECK(cut_everywhere({"images and volumes", disks}) >= 100 / crash_stride);
}

}  // namespace hum
