// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/kernel_store.h"

#include <cstdlib>

#include "tools/hum/kernel_store_files.h"
#include "tools/hum/process.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

// A store of its own and a place for packages, for one test.
class Store {
 public:
  Store() { setenv("HUM_CACHE", (folder_.path() / "cache").c_str(), 1); }
  ~Store() { unsetenv("HUM_CACHE"); }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // A package with the given kernel (no file if empty) and no module.
  std::string make_deb(const std::string& release, std::string_view kernel,
                       const std::string& version = "1.0") const {
    const fs::path root = folder_.path() / "root";
    fs::create_directories(root / "DEBIAN");
    fs::create_directories(root / "boot");
    fs::create_directories(root / "lib/modules" / release / "kernel");
    write_whole_file(root / "DEBIAN/control",
                     "Package: linux-image-" + release + "\nVersion: " + version +
                         "\nArchitecture: amd64\nMaintainer: none <none@example.org>\n"
                         "Description: a kernel for a test\n");
    if (!kernel.empty()) write_whole_file(root / "boot" / ("vmlinuz-" + release), kernel);
    const fs::path deb = folder_.path() / (release + ".deb");
    run_successfully({"dpkg-deb", "--root-owner-group", "-b", root, deb});
    fs::remove_all(root);
    return deb;
  }

  static GetOptions from(const std::string& deb, bool force = false) {
    GetOptions options;
    options.from_deb = deb;
    options.force = force;
    return options;
  }

  // What is in the store, of a process that was killed too; not the lock.
  static std::size_t entries() {
    std::size_t count = 0;
    for (const fs::directory_entry& entry : fs::directory_iterator(kernel_store_folder())) {
      if (entry.is_directory()) ++count;
    }
    return count;
  }

 private:
  TemporaryFolder folder_{fs::temp_directory_path()};
};

std::string text_of(const fs::path& path) {
  const std::vector<std::byte> content = read_whole_file(path);
  return {reinterpret_cast<const char*>(content.data()), content.size()};
}

}  // namespace

TEST_CASE("the store is where HUM_CACHE says, else in the user's cache") {
  const Store store;
  setenv("HUM_CACHE", "/a", 1);
  CHECK(kernel_store_folder() == "/a/kernels");
  unsetenv("HUM_CACHE");
  setenv("XDG_CACHE_HOME", "/b", 1);
  CHECK(kernel_store_folder() == "/b/hum/kernels");
  unsetenv("XDG_CACHE_HOME");
  const std::string home = std::getenv("HOME") != nullptr ? std::getenv("HOME") : "/";
  setenv("HOME", "/c", 1);
  CHECK(kernel_store_folder() == "/c/.cache/hum/kernels");
  unsetenv("HOME");
  CHECK_THROWS_AS(kernel_store_folder(), ConfigError);
  setenv("HOME", home.c_str(), 1);
}

TEST_CASE("a store that was never used has no kernel") {
  const Store store;
  CHECK(list_kernels().empty());
  CHECK_FALSE(default_kernel());
}

TEST_CASE("a package becomes a kernel with its initrd and a record") {
  const Store store;
  const StoredKernel kernel =
      get_kernel(Store::from(store.make_deb("6.1.0-9-cloud-amd64", "kernel", "6.1.50-1")));
  CHECK(kernel.name == "6.1.0-9-cloud-amd64");
  CHECK(kernel.version == "6.1.50-1");
  CHECK(text_of(kernel.kernel_path) == "kernel");
  CHECK(text_of(kernel.initrd_path).starts_with("070701"));
  CHECK_THAT(text_of(kernel_store_folder() / kernel.name / "info"),
             Catch::StartsWith(
                 "release=6.1.0-9-cloud-amd64\npackage=linux-image-6.1.0-9-cloud-amd64\nversion=6.1.50-1\n"
                 "sha256=6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c\ninit="));
  CHECK(Store::entries() == 1);
}

TEST_CASE("the newest kernel is the default, numbers compared as numbers") {
  const Store store;
  for (const char* release : {"6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "5.10.0-30-cloud-amd64"}) {
    get_kernel(Store::from(store.make_deb(release, "kernel")));
  }
  REQUIRE(default_kernel());
  CHECK(default_kernel()->name == "6.1.0-56-cloud-amd64");
  const std::vector<StoredKernel> kernels = list_kernels();
  REQUIRE(kernels.size() == 3);
  CHECK(kernels[1].name == "6.1.0-9-cloud-amd64");
  CHECK(kernels[2].name == "5.10.0-30-cloud-amd64");
}

TEST_CASE("a kernel that is in the store is kept, unless it is to be made anew") {
  const Store store;
  get_kernel(Store::from(store.make_deb("6.1.0", "old", "1.0")));
  const std::string deb = store.make_deb("6.1.0", "new", "2.0");
  CHECK(get_kernel(Store::from(deb)).version == "1.0");
  const StoredKernel renewed = get_kernel(Store::from(deb, true));
  CHECK(renewed.version == "2.0");
  CHECK(text_of(renewed.kernel_path) == "new");
  CHECK(Store::entries() == 1);
}

TEST_CASE("a kernel whose initrd another version of the program has made is made anew") {
  const Store store;
  const StoredKernel old = get_kernel(Store::from(store.make_deb("6.1.0", "old", "1.0")));
  const fs::path info = kernel_store_folder() / "6.1.0/info";
  std::string text = text_of(info);
  text[text.find("init=") + 5] = '-';
  write_whole_file(info, text);
  CHECK(list_kernels().size() == 1);
  const std::string deb = store.make_deb("6.1.0", "new", "2.0");
  CHECK(get_kernel(Store::from(deb)).version == "2.0");
  CHECK(Store::entries() == 1);
}

TEST_CASE("a failure leaves the store as it was") {
  const Store store;
  get_kernel(Store::from(store.make_deb("6.1.0", "kernel")));
  CHECK_THROWS_AS(get_kernel(Store::from(store.make_deb("6.2.0", ""))), ConfigError);
  CHECK_THROWS_AS(get_kernel(Store::from("/no/such/file.deb")), HostError);
  CHECK_THROWS_AS(get_kernel(Store::from(store.make_deb("6.1.0", ""), true)), ConfigError);
  CHECK(Store::entries() == 1);
  CHECK(text_of(list_kernels().at(0).kernel_path) == "kernel");
}

TEST_CASE("what a killed process has left is no kernel and goes with the next one") {
  const Store store;
  const fs::path leftover = kernel_store_folder() / ".new-AbCdEf" / "entry";
  fs::create_directories(leftover);
  write_whole_file(leftover / "info", "");
  CHECK(list_kernels().empty());
  get_kernel(Store::from(store.make_deb("6.1.0", "kernel")));
  CHECK(Store::entries() == 1);
}

TEST_CASE("a host without dpkg-deb or apt is told what can be given instead") {
  const Store store;
  const std::string deb = store.make_deb("6.1.0", "kernel");
  const std::string path = std::getenv("PATH");
  setenv("PATH", "/nonexistent", 1);
  for (const std::string& source : {deb, std::string()}) {
    std::string message;
    try {
      get_kernel(Store::from(source));
    } catch (const HostError& error) {
      message = error.what();
    }
    CHECK(message.find("--kernel FILE") != std::string::npos);
  }
  setenv("PATH", path.c_str(), 1);
}

}  // namespace hum
