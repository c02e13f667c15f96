"""What a figure was measured on, in words."""

import os
import platform
import re


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        found = re.search(r"^model name\s*:\s*(.*)$", info.read(), re.M)
    return found[1].strip() if found else platform.machine()


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def distribution():
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def hardware():
    return f"{os.cpu_count()} cores of {processor()}, {memory_gib():.0f} GiB"


def system():
    return f"Linux {platform.release()}, {distribution()}"
