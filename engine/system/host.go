package system

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// host is what is shown of the machine.
type host struct {
	name, kernel, machine string
	system, systemVersion string
	memory                int64 // bytes
	forwarding            bool
}

func readHost() host {
	h := host{system: "Linux"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.name = unix.ByteSliceToString(u.Nodename[:])
		h.kernel = unix.ByteSliceToString(u.Release[:])
		h.machine = unix.ByteSliceToString(u.Machine[:])
	}
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		values := readPairs(path, "=")
		if values == nil {
			continue
		}
		if name := unquote(values["PRETTY_NAME"]); name != "" {
			h.system = name
		}
		h.systemVersion = unquote(values["VERSION_ID"])
		break
	}
	total, _, _ := strings.Cut(readPairs("/proc/meminfo", ":")["MemTotal"], " ")
	kib, _ := strconv.ParseInt(total, 10, 64)
	h.memory = kib << 10
	forward, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	h.forwarding = strings.TrimSpace(string(forward)) == "1"
	return h
}

// readPairs reads a file of names and values; nil when it cannot be read.
func readPairs(path, separator string) map[string]string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	pairs := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), separator); ok {
			pairs[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return pairs
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// openFiles is the number of this process's open files, or -1.
func openFiles() int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(names)
}

func cdiDirs() []string { return append([]string{}, cdi.DefaultSpecDirs...) }
