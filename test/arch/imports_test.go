package arch

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// base are the packages that everybody may import; they import only each other.
var base = []string{"engine/fault", "engine/record", "engine/crashpoint", "engine/filter"}

// level is a package's height: imports go down, or stay within one tree.
func level(dir string) int {
	switch {
	case dir == ".":
		return 5
	case within(dir, base...):
		return 0
	case within(dir, "apiserver"):
		return 4
	case within(dir, "engine"):
		return 3
	case within(dir, "image", "netstack"):
		return 2
	case within(dir, "userns"):
		return 1
	}
	return -1
}

func TestArrowsPointDown(t *testing.T) {
	for dir, p := range packages(t) {
		if within(dir, "test") {
			continue
		}
		from := level(dir)
		if from < 0 {
			t.Errorf("%s: the layout knows no such folder", dir)
			continue
		}
		for path, file := range p.imports {
			to, ok := own(path)
			if !ok {
				continue
			}
			if within(to, "test") {
				t.Errorf("%s: imports %s, which is for tests", file, to)
			}
			same := strings.Split(dir, "/")[0] == strings.Split(to, "/")[0] && (from > 0 || within(to, base...))
			if level(to) >= from && !same {
				t.Errorf("%s: imports %s: arrows point down: main → apiserver → engine → {image, netstack} → userns", file, to)
			}
		}
	}
}

// kinds own one kind of resource each.
var kinds = []string{"engine/container", "engine/exec", "engine/network", "engine/volume"}

func TestKindsDoNotKnowEachOther(t *testing.T) {
	for dir, p := range packages(t) {
		if !within(dir, kinds...) {
			continue
		}
		for path, file := range p.imports {
			to, ok := own(path)
			if ok && within(to, kinds...) && kind(to) != kind(dir) {
				t.Errorf("%s: imports %s: kinds meet through interfaces that engine.New wires", file, to)
			}
		}
	}
}

func kind(dir string) string { return strings.Join(strings.Split(dir, "/")[:2], "/") }

// owners are the only packages that may import a library, by its prefix.
var owners = map[string][]string{
	"github.com/opencontainers/runc/libcontainer": {
		"engine/runtime",
		"engine/keeper/kelp-keeper", // dispatches libcontainer's own stage in its main
	},
	"gvisor.dev/":                     {"netstack"},
	"github.com/rootless-containers/": {"userns"},
	"github.com/docker/cli":           {"apiserver/cmd"},
	"github.com/urfave/cli":           {"apiserver/cmd"},
	"github.com/gorilla/mux":          {"apiserver"},
	"go.podman.io/image":              {"image"},
	"os/exec":                         starters,
}

// starters are the packages that may start processes.
var starters = []string{
	"userns", "engine/runtime", "engine/keeper/server", "engine/keeper/pid1", "netstack/link",
	"image/transfer", // credential helpers
	"apiserver/cmd",  // `kelp env` starts the daemon, `kelp install` calls systemctl
}

func TestLibrariesHaveOneOwner(t *testing.T) {
	for dir, p := range packages(t) {
		if within(dir, "test") {
			continue
		}
		for path, file := range p.imports {
			for prefix, allowed := range owners {
				if strings.HasPrefix(path, prefix) && !within(dir, allowed...) {
					t.Errorf("%s: imports %s; only %s may", file, path, strings.Join(allowed, ", "))
				}
			}
		}
	}
}

func TestKeeperStaysSmall(t *testing.T) {
	const program = "./engine/keeper/kelp-keeper"
	packages(t) // changes to the repository's root
	if _, err := os.Stat(program); err != nil {
		t.Skip(err)
	}
	out, err := exec.Command("go", "list", "-deps", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	forbidden := []string{
		"go.podman.io/", "github.com/docker/cli", "github.com/moby/buildkit", "github.com/moby/swarmkit",
		"github.com/urfave/cli", "net/http", module + "/image", module + "/apiserver", module + "/engine/record",
	}
	for dep := range strings.Lines(string(out)) {
		for _, f := range forbidden {
			if dep = strings.TrimSpace(dep); strings.HasPrefix(dep, f) {
				t.Errorf("the keeper links %s: it is executed for every start and exec, and outlives engines", dep)
			}
		}
	}
}
