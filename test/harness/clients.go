package harness

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// linkClients makes the clients that hack/setup-clients has put into the
// repository's bin/clients known by the same names in base. The test user may
// be unable to read the repository, but reads what the links lead to.
func linkClients(root, base string) error {
	from, to := filepath.Join(root, "bin", "clients"), filepath.Join(base, "clients")
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	links, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, l := range links {
		target, err := os.Readlink(filepath.Join(from, l.Name()))
		if err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(to, l.Name())); err != nil {
			return err
		}
	}
	return nil
}

// addDocker puts a docker client into bin where the machine has none: the one
// of hack/setup-clients, else kelp's own.
func addDocker(base, bin string) error {
	if _, err := exec.LookPath("docker"); err == nil {
		return nil
	}
	client := filepath.Join(base, "clients", "docker", "docker")
	if !isFile(client) {
		client = "kelp"
	}
	return os.Symlink(client, filepath.Join(bin, "docker"))
}

// clientsDir is where linkClients has put the links.
func clientsDir() string { return filepath.Join(os.Getenv(baseEnv), "clients") }

// hasClient says whether a client is there.
func hasClient(name string) bool {
	_, err := os.Stat(filepath.Join(clientsDir(), name))
	return err == nil
}
