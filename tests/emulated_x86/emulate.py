#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program on an emulated Sapphire Rapids under Linux: AMX, its permission, threads, signals.

Not part of any stage. It needs xorriso and isolinux (Debian's packages of these names), a C++
compiler, and two paths:

  --bochs   the sources of Bochs 3, configured with --enable-x86-64 --enable-avx --enable-evex
            --enable-amx --enable-pci --with-nogui --enable-all-optimizations --disable-docbook, and
            built: two minutes. The version of August 2026 has to be completed first with what Linux
            wants before it lends tile registers: XFD (CPUID leaf 0xd, MSRs 0x1c4 and 0x1c5, #NM at
            the first use) and the size of a compacted XSAVE area with the gaps that its alignment
            leaves. It also saves fewer rows of tiles than there are, mixes up rows and bytes of a
            configuration, and takes the bytes of TDPBSSD for unsigned.
  --kernel  Linux 5.16 or later, such as the vmlinuz of Debian's linux-image-cloud-amd64

The program is linked statically (CMake: -DCMAKE_EXE_LINKER_FLAGS=-static). It sees /proc and the
--file ones. About 300 million instructions a second, of which the boot takes two billion.

  emulate.py --bochs bochs --kernel vmlinuz build/tests/rwkv_tests_of_kernels --no-path-filenames
             '--source-file=*kernels/*in_tiles*,*kernels/dispatched*,*kernels/levels*'

Prints what the program does, and exits with its status.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

COMMAND_LINE = ("initrd=initrd console=ttyS0,115200 quiet tsc=reliable random.trust_cpu=on "
                # Bochs has no fast strings, which this one would take for granted: FSRM
                "clearcpuid=580")
MACHINE = """megs: 1024
romimage: file={bochs}/bios/BIOS-bochs-latest
vgaromimage: file={bochs}/bios/VGABIOS-lgpl/VGABIOS-lgpl-latest.bin
cpu: model=sapphire_rapids, ips=100000000, reset_on_triple_fault=0, mwait_is_nop=1
ata0-master: type=cdrom, path={here}/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={here}/console
log: {here}/log
panic: action=fatal
error: action=report
display_library: nogui
"""


def archive(entries):
    """A cpio archive ("newc") of (name, mode, device, bytes)."""
    out = b""
    for number, (name, mode, device, data) in enumerate(entries, 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bochs", required=True, type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--kernel", required=True, type=pathlib.Path)
    parser.add_argument("--file", action="append", default=[], metavar="NAME=PATH",
                        help="a file that the program finds as /NAME")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        here = pathlib.Path(directory)
        boot = here / "disk" / "isolinux"
        boot.mkdir(parents=True)
        init = here / "init"
        subprocess.run(["c++", "-std=c++20", "-O1", "-static", "-o", init,
                        pathlib.Path(__file__).with_name("init.cpp")], check=True)
        files = [("init", init.read_bytes()), ("program", args.program.read_bytes()),
                 ("arguments", "".join(a + "\n" for a in args.arguments).encode())]
        for pair in args.file:
            name, path = pair.split("=", 1)
            files.append((name, pathlib.Path(path).read_bytes()))
        entries = [("dev", 0o40755, (0, 0), b""), ("dev/console", 0o20600, (5, 1), b"")]
        entries += [(name, 0o100755, (0, 0), data) for name, data in files]
        (boot / "initrd").write_bytes(archive(entries + [("TRAILER!!!", 0, (0, 0), b"")]))
        shutil.copy(args.kernel, boot / "vmlinuz")
        shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", boot)
        shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", boot)
        (boot / "isolinux.cfg").write_text(f"default linux\nlabel linux\n kernel vmlinuz\n"
                                           f" append {COMMAND_LINE}\n")
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", here / "disk.iso",
                        "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot",
                        "-boot-load-size", "4", "-boot-info-table", here / "disk"], check=True)
        (here / "machine").write_text(MACHINE.format(bochs=args.bochs, here=here))
        machine = subprocess.Popen([args.bochs / "bochs", "-q", "-f", here / "machine"], cwd=here,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        console, shown, status = here / "console", 0, None
        end = time.monotonic() + 60 * args.minutes
        while status is None and machine.poll() is None and time.monotonic() < end:
            time.sleep(1)
            text = console.read_bytes() if console.exists() else b""
            sys.stdout.write(text[shown:].decode(errors="replace").replace("\r", ""))
            sys.stdout.flush()
            shown = len(text)
            found = re.search(rb"\nexit status (\d+)\r?\n|(Kernel panic)", text)
            if found:
                status = int(found[1]) if found[1] else 1
        machine.kill()
        machine.wait()
        if status is None:
            print((here / "log").read_text(errors="replace")[-2000:] if (here / "log").exists()
                  else "the emulator has not begun", file=sys.stderr)
    return 1 if status is None else status


if __name__ == "__main__":
    sys.exit(main())
