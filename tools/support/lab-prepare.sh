# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # lab_cache, lab_support: set by tools/lab
#
# Sourced by tools/lab: gets the lab's kernel and makes its initramfs, both into the cache.
# The kernel is Debian's linux-image-amd64, unpacked and never installed:
#
#   <cache>/lab/<version>/vmlinux               the kernel, unpacked (ELF, booted through PVH)
#   <cache>/lab/<version>/vmlinuz               as packaged (booted where unpacking did not work)
#   <cache>/lab/<version>/modules/              its modules, with the tables that depmod makes
#   <cache>/lab/<version>/initramfs-<key>.cpio  key: hash of what went in
#
# Everything is made in a temporary folder and renamed: what is there is complete.

# What the lab loads at its start, with what that depends on: the way to the caller's file system, and
# at the same time KVM. All other modules load on demand.
lab_boot_modules=(virtio_pci 9pnet_virtio 9p overlay virtio_console)
lab_kvm_modules=(kvm_amd)

# Sets lab_kernel to the newest kernel folder in the cache, or to nothing.
lab_find_kernel() {
  local folder
  lab_kernel=
  while read -r folder; do
    [[ ! -e $folder/release ]] || lab_kernel=${folder%/}
  done < <(printf '%s\n' "$lab_cache"/[0-9]*/ | sort -V)
}

# Finds the package behind linux-image-amd64 and unpacks it. Sets lab_kernel.
lab_get_kernel() {
  local package version folder release log
  package=$(lab_kernel_package)
  if [[ -z $package ]] && ((EUID == 0)); then
    apt-get -q update >/dev/null 2>&1 || true
    package=$(lab_kernel_package)
  fi
  [[ -n $package ]] ||
    lab_fail "apt knows no linux-image-amd64; run as root: apt-get update"
  version=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p')
  folder=$lab_cache/$version
  if [[ ! -e $folder/release ]]; then
    echo "lab: getting $package $version" >&2
    lab_temporary=$(mktemp -d "$lab_cache/.new.XXXXXX")
    log=$lab_temporary/log
    (
      cd "$lab_temporary"
      options=()
      ((EUID != 0)) || options=(-o APT::Sandbox::User=root)
      apt-get -q "${options[@]}" download "$package=$version" && dpkg -x ./*.deb root
    ) >"$log" 2>&1 || {
      tail -n 5 "$log" >&2
      lab_fail "cannot get $package; run as root: apt-get update"
    }
    release=$(basename "$lab_temporary"/root/boot/vmlinuz-*)
    release=${release#vmlinuz-}
    # /lib is a link to usr/lib where the package says usr/lib
    [[ -e $lab_temporary/root/lib ]] || ln -s usr/lib "$lab_temporary/root/lib"
    depmod -b "$lab_temporary/root" "$release" 2>>"$log" || lab_fail "depmod failed: $(<"$log")"
    mkdir "$lab_temporary/done"
    mv "$lab_temporary/root/boot/vmlinuz-$release" "$lab_temporary/done/vmlinuz"
    mv "$lab_temporary/root/boot/config-$release" "$lab_temporary/done/config"
    mv "$(realpath "$lab_temporary/root/lib/modules/$release")" "$lab_temporary/done/modules"
    lab_unpack_kernel "$lab_temporary/done/vmlinuz" "$lab_temporary/done/vmlinux"
    echo "$release" >"$lab_temporary/done/release"
    chmod 755 "$lab_temporary/done"
    mv -T "$lab_temporary/done" "$folder"
    rm -rf "$lab_temporary"
    lab_temporary=
  fi
  lab_kernel=$folder
}

lab_kernel_package() {
  apt-cache depends --important linux-image-amd64 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1 || true
}

# A bzImage unpacks itself, which takes several seconds where each instruction is emulated.
lab_unpack_kernel() { # bzImage, ELF file to make
  local image=$1 elf=$2 offset magic kind number
  # shellcheck disable=SC2016
  for kind in 'xz -dcq:\xFD7zXZ\x00' 'zstd -dcq:\x28\xB5\x2F\xFD' 'gzip -dcq:\x1F\x8B\x08'; do
    magic=${kind#*:}
    while IFS=: read -r offset _; do
      # what follows the payload makes every unpacker complain: judge by the result
      # shellcheck disable=SC2086
      tail -c "+$((offset + 1))" "$image" | ${kind%%:*} >"$elf" 2>/dev/null || true
      number=$(head -c 4 "$elf" | od -An -tx1 | tr -d ' ')
      if [[ $number == 7f454c46 ]] && grep -qa Xen "$elf"; then
        return 0
      fi
    done < <(LC_ALL=C grep -obUaP "$magic" "$image" | head -n 8)
  done
  rm -f "$elf"
}

# Makes the initramfs if it is not there. Sets lab_initramfs.
lab_get_initramfs() {
  local key busybox=/bin/busybox release kind path name file list
  key=$(cat "$lab_support/lab-init" "$lab_support/lab-prepare.sh" | sha256sum)
  lab_initramfs=$lab_kernel/initramfs-${key:0:12}.cpio
  [[ -e $lab_initramfs ]] && return 0

  release=$(<"$lab_kernel/release")
  lab_temporary=$(mktemp -d "$lab_cache/.new.XXXXXX")
  mkdir -p "$lab_temporary"/root/{bin,modules,proc,sys,dev,lower,upper,lab,control,hidden} \
    "$lab_temporary/tree/lib/modules"
  ln -s "$lab_kernel/modules" "$lab_temporary/tree/lib/modules/$release"
  : >"$lab_temporary/root/modules/boot"
  : >"$lab_temporary/root/modules/kvm"
  for name in "${lab_boot_modules[@]}" "${lab_kvm_modules[@]}"; do
    list=boot
    [[ " ${lab_kvm_modules[*]} " != *" $name "* ]] || list=kvm
    while read -r kind path _; do
      [[ $kind == insmod ]] || continue
      file=$(basename "$path")
      file=${file%%.ko*}.ko
      [[ ! -e $lab_temporary/root/modules/$file ]] || continue
      case $path in
        *.xz) xz -dc "$path" ;;
        *.zst) zstd -dcq "$path" ;;
        *.gz) gzip -dc "$path" ;;
        *) cat "$path" ;;
      esac >"$lab_temporary/root/modules/$file"
      echo "$file" >>"$lab_temporary/root/modules/$list"
    done < <(modprobe -d "$lab_temporary/tree" -S "$release" --show-depends "$name")
  done
  [[ -e $lab_temporary/root/modules/overlay.ko ]] || lab_fail "the kernel's modules are incomplete"

  cp "$busybox" "$lab_temporary/root/bin/busybox"
  # names at run time are links: the shell finds them without asking
  while read -r name; do
    [[ $name == busybox ]] || ln -s busybox "$lab_temporary/root/bin/$name"
  done < <("$busybox" --list)
  # shellcheck disable=SC2016
  printf '%s\n' '#!/bin/busybox sh' 'exec /bin/chroot /modules-tree /sbin/modprobe "$@"' \
    >"$lab_temporary/root/bin/lab-modprobe"
  cp "$lab_support/lab-init" "$lab_temporary/root/init"
  chmod 755 "$lab_temporary/root/init" "$lab_temporary/root/bin/lab-modprobe"
  (cd "$lab_temporary/root" && find . | cpio --quiet -o -H newc -R 0:0) >"$lab_temporary/initramfs"
  mv "$lab_temporary/initramfs" "$lab_initramfs"
  rm -rf "$lab_temporary"
  lab_temporary=
  # earlier ones that no run of the last day can be using
  find "$lab_kernel" -maxdepth 1 -name 'initramfs-*.cpio' -mtime +1 ! -path "$lab_initramfs" -delete
}

# lab_prepare NEWEST: makes kernel and initramfs available; with NEWEST=1 asks apt for a newer kernel.
lab_prepare() {
  local newest=$1
  mkdir -p "$lab_cache"
  lab_find_kernel
  if ((newest == 0)) && [[ -n $lab_kernel ]]; then
    local key
    key=$(cat "$lab_support/lab-init" "$lab_support/lab-prepare.sh" | sha256sum)
    lab_initramfs=$lab_kernel/initramfs-${key:0:12}.cpio
    [[ -e $lab_initramfs ]] && return 0
  fi
  local lock
  exec {lock}>"$lab_cache/lock"
  flock "$lock"
  if ((newest)); then
    lab_get_kernel
  else
    lab_find_kernel
    [[ -n $lab_kernel ]] || lab_get_kernel
  fi
  lab_get_initramfs
  exec {lock}>&-
}
