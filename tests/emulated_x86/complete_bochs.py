#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Completes the sources of Bochs (3.0.devel of August 2026), whose Sapphire Rapids lacks what Linux
wants before it lets a program use tile registers: XFD (CPUID leaf 0xd, MSRs 0x1c4 and 0x1c5, #NM at
the first use), and the size of a compacted XSAVE area with its gaps. Saved tiles are all rows of
those that are in use, with rows and bytes where LDTILECFG has them; and the bytes that TDPBSSD
multiplies are signed.

Usage: complete_bochs.py BOCHS
"""
import pathlib
import sys

BITS = "(BX_XCR0_XTILECFG_MASK | BX_XCR0_XTILEDATA_MASK)"
ROWS = "for (unsigned row=0; row < BX_TILE_REGISTERS; row++) {\n      "
DEADLINE = "    case BX_MSR_TSC_DEADLINE:\n      "


def before(anchor, text):
    return anchor, text + anchor


def behind(anchor, text):
    return anchor, anchor + text


EDITS = {
    "cpu/cpu.h": [behind("  Bit64u ia32_xss;\n", "  Bit64u xfd, xfd_error;\n")],
    "cpu/init.cc": [behind("  BX_CPU_THIS_PTR msr.ia32_xss = 0;\n",
                           "  BX_CPU_THIS_PTR msr.xfd = BX_CPU_THIS_PTR msr.xfd_error = 0;\n")],
    "cpu/cpuid.cc": [
        behind("      leaf->eax |= (1<<3);\n",
               "    if (is_cpu_extension_supported(BX_ISA_AMX)) leaf->eax |= 1 << 4;\n"),
        ("      max_size += xsave_restore[n].len;\n",
         "      max_size += xsave_restore[n].len +\n"
         "                  (xsave_restore[n].attr & BX_XSAVE_ALIGN64 ? -max_size & 63 : 0);\n")],
    "cpu/crregs.cc": [behind("xsave_restore[xcr0_t::BX_XCR0_XTILEDATA_BIT].attr   = BX_XSAVE_ALIGN64",
                             " | BX_XSAVE_XFD_SUPPORT")],
    "cpu/proc_ctrl.cc": [
        behind("  if (! long64_mode() || ! BX_CPU_THIS_PTR cr4.get_OSXSAVE() ||\n",
               "      (BX_CPU_THIS_PTR msr.xfd & BX_XCR0_XTILEDATA_MASK) != 0 ||\n"),
        behind(f"  if (~BX_CPU_THIS_PTR xcr0.get32() & {BITS})\n    exception(BX_UD_EXCEPTION, 0);\n",
               "\n  if (BX_CPU_THIS_PTR msr.xfd & BX_XCR0_XTILEDATA_MASK) {\n"
               "    BX_CPU_THIS_PTR msr.xfd_error = BX_XCR0_XTILEDATA_MASK;\n"
               "    exception(BX_NM_EXCEPTION, 0);\n  }\n")],
    "cpu/msr.cc": [
        before("  msr_desc[BX_MSR_TSC_DEADLINE]",
               '  msr_desc[BX_MSR_IA32_XFD] = new MSR_Descriptor("XFD", BX_ISA_AMX);\n'
               '  msr_desc[BX_MSR_IA32_XFD_ERROR] = new MSR_Descriptor("XFD_ERR", BX_ISA_AMX);\n'),
        before(DEADLINE + "val64",
               "    case BX_MSR_IA32_XFD:\n      val64 = BX_CPU_THIS_PTR msr.xfd;\n      break;\n"
               "    case BX_MSR_IA32_XFD_ERROR:\n      val64 = BX_CPU_THIS_PTR msr.xfd_error;\n"
               "      break;\n"),
        before(DEADLINE + "BX_CPU_THIS_PTR",
               "    case BX_MSR_IA32_XFD:\n      BX_CPU_THIS_PTR msr.xfd = val_64;\n"
               "      handleAvxModeChange();\n      break;\n"
               "    case BX_MSR_IA32_XFD_ERROR:\n      BX_CPU_THIS_PTR msr.xfd_error = val_64;\n"
               "      break;\n")],
    "cpu/xsave.cc": [
        ("tilecfg.vmm16u(8+n)    = BX_CPU_THIS_PTR amx->tilecfg[n].rows",
         "tilecfg.vmmubyte(48+n) = BX_CPU_THIS_PTR amx->tilecfg[n].rows"),
        ("tilecfg.vmmubyte(48+n) = BX_CPU_THIS_PTR amx->tilecfg[n].bytes_per_row",
         "tilecfg.vmm16u(8+n)    = BX_CPU_THIS_PTR amx->tilecfg[n].bytes_per_row"),
        (ROWS + "write", ROWS.replace("REGISTERS", "MAX_ROWS") + "write"),
        (ROWS + "read", ROWS.replace("REGISTERS", "MAX_ROWS") + "read"),
        ("(BX_CPU_THIS_PTR amx->tile_use_tracker == 0)", "BX_CPU_THIS_PTR amx->tile_use_tracker != 0")],
    "cpu/avx/amx.cc": [(f"Bit32s(xbyte[{i}]) * Bit32s(ybyte[{i}])",
                        f"Bit32s(Bit8s(xbyte[{i}])) * Bit32s(Bit8s(ybyte[{i}]))") for i in range(4)],
}


def main():
    root = pathlib.Path(sys.argv[1])
    edited = {}
    for name, edits in EDITS.items():
        text = (root / name).read_text(encoding="latin-1")
        for old, new in edits:
            if text.count(old) != 1:
                sys.exit(f"{name} is not what is known: it has {text.count(old)} times {old!r}")
            text = text.replace(old, new)
        edited[root / name] = text
    for path, text in edited.items():
        path.write_text(text, encoding="latin-1")


if __name__ == "__main__":
    main()
