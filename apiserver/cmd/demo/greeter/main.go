// Command greeter is the only program of the demo's image: it says where it
// runs, as whom, and what it can see.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	host, _ := os.Hostname()
	fmt.Printf("hello from a container called %s\n", host)
	fmt.Printf("in here I am process %d, uid %d and gid %d\n", os.Getpid(), os.Getuid(), os.Getgid())
	for line := range strings.Lines(read("/proc/self/uid_map")) {
		var inside, outside, count int
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err != nil {
			continue
		}
		if count == 1 {
			fmt.Printf("uid %d in here is uid %d of the host\n", inside, outside)
		} else {
			fmt.Printf("uids %d to %d in here are uids %d to %d of the host\n", inside, inside+count-1, outside, outside+count-1)
		}
	}
	pids, _ := filepath.Glob("/proc/[0-9]*")
	fmt.Printf("I see %d process and these files: %s\n", len(pids), strings.Join(list("/"), " "))
	fmt.Printf("the kernel is %s", strings.SplitAfter(read("/proc/sys/kernel/osrelease"), "\n")[0])
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error() + "\n"
	}
	return string(b)
}

func list(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
