// SPDX-License-Identifier: Apache-2.0
#pragma once
#pragma GCC system_header

// The kernel's header, with the layout it has in C. Its flexible arrays are wrapped together with an empty
// structure, which takes a byte in C++: that moves the arrays and changes the numbers of the ioctls that
// encode the structure's size. Kernels from 6.7 on have this very definition for C++.
#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
#include <linux/kvm.h>

static_assert(sizeof(kvm_signal_mask) == 4 && sizeof(kvm_msrs) == 8 && sizeof(kvm_cpuid2) == 8 &&
              sizeof(kvm_irq_routing) == 8);
