# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Debian packages that the project's tools need, in groups, and hum_install to get them.
# To be sourced; Debian 12 and later. "a|b" means: either will do, a first (names that differ
# between releases).
#
#   . tools/support/packages.sh
#   hum_install build check

# To compile everything and run the unit tests.
# shellcheck disable=SC2034 # the arrays are used by name
HUM_BUILD_PACKAGES=(
  g++ cmake ninja-build 'pkg-config|pkgconf' git ccache binutils linux-libc-dev libcli11-dev nlohmann-json3-dev libtomlplusplus-dev catch2 nettle-dev
  zlib1g-dev liblzma-dev libbz2-dev libzstd-dev liblz4-dev libblkid-dev liburing-dev libseccomp-dev libsqlite3-dev libssl-dev 'libboost1.81-dev|libboost-dev'
)

# For the checks beyond the unit tests: a second compiler with fuzzing and sanitizers, formatting,
# ACPI table checks, guest images, terminals, sockets and networks under test.
# shellcheck disable=SC2034
HUM_CHECK_PACKAGES=(
  clang-19 libclang-rt-19-dev llvm-19 clang-format-19
  acpica-tools shellcheck python3 mmdebstrap genext2fs
  util-linux expect socat curl iproute2 e2fsprogs zstd xz-utils cpio qemu-utils qemu-system-common fio passt iperf3 tcpdump
  dnsmasq-base nftables busybox-static
)

# For tools/bench: the rival, and what a guest measures with.
# shellcheck disable=SC2034
HUM_BENCH_PACKAGES=(
  qemu-system-x86 qemu-utils fio iperf3 passt iproute2 iputils-ping busybox-static e2fsprogs zstd
)

# For tools/lab.
# shellcheck disable=SC2034
HUM_LAB_PACKAGES=(
  qemu-system-x86 busybox-static kmod cpio util-linux e2fsprogs zstd xz-utils
)

# Prints the members of the given packages (or a|b choices) that are not installed, one a line.
hum_missing_packages() {
  local wanted=("$@") names=() choice name state
  local -A installed=()
  for choice in "${wanted[@]}"; do
    IFS='|' read -ra REPLY <<<"$choice"
    names+=("${REPLY[@]}")
  done
  while read -r state name; do
    [[ $state == installed ]] && installed[$name]=1
  done < <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${names[@]}" 2>/dev/null || true)
  for choice in "${wanted[@]}"; do
    IFS='|' read -ra REPLY <<<"$choice"
    for name in "${REPLY[@]}"; do
      [[ -n ${installed[$name]:-} ]] && continue 2
    done
    printf '%s\n' "$choice"
  done
}

# hum_install GROUP...: installs what is missing of the groups build, check, lab, bench.
# Says nothing and returns at once where nothing is missing. Returns 1, with a message on stderr, where
# packages are missing and cannot be installed.
hum_install() {
  local group choice name log wanted=() missing=() chosen=() root=()
  for group in "$@"; do
    case $group in
      build | check | lab | bench) ;;
      *)
        echo "packages: unknown group '$group'; there are: build, check, lab, bench" >&2
        return 2
        ;;
    esac
    local -n members="HUM_${group^^}_PACKAGES"
    wanted+=("${members[@]}")
    unset -n members
  done
  if ! command -v dpkg-query >/dev/null; then
    echo "packages: not a Debian system; install the equivalents of: ${wanted[*]}" >&2
    return 1
  fi
  mapfile -t missing < <(hum_missing_packages "${wanted[@]}")
  ((${#missing[@]} == 0)) && return 0

  if ((EUID != 0)); then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      root=(sudo -n)
    else
      echo "packages: missing; run as root: apt-get install --no-install-recommends ${missing[*]%%|*}" >&2
      return 1
    fi
  fi
  echo "packages: installing ${missing[*]%%|*}" >&2
  log=$(mktemp "${TMPDIR:-/tmp}/hum-packages.XXXXXX")
  if ! "${root[@]}" apt-get -q update >"$log" 2>&1; then
    echo "packages: 'apt-get update' failed (going on with the package lists there are)" >&2
  fi
  for choice in "${missing[@]}"; do
    IFS='|' read -ra REPLY <<<"$choice"
    name=${REPLY[0]}
    for name in "${REPLY[@]}" "${REPLY[0]}"; do
      apt-cache show --no-all-versions "$name" >/dev/null 2>&1 && break
    done
    chosen+=("$name")
  done
  if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
    -o DPkg::Lock::Timeout=300 install --no-install-recommends "${chosen[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "packages: 'apt-get install ${chosen[*]}' failed; the whole log: $log" >&2
    return 1
  fi
  rm -f "$log"
}
