package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctl is one setting below /proc/sys/net, for instance
// {"ipv4/ip_forward", "1"}.
type sysctl struct{ name, value string }

// Sysctls sets kernel settings of the namespace, as "net.ipv4.ip_forward".
func (n *Namespace) Sysctls(settings map[string]string) error {
	return n.Do(func() error {
		for name, value := range settings {
			path, ok := strings.CutPrefix(name, "net.")
			if path = strings.ReplaceAll(path, ".", "/"); !ok || !filepath.IsLocal(path) {
				return fmt.Errorf("%s is no setting of a network", name)
			}
			if err := (sysctl{path, value}).write(); err != nil {
				return err
			}
		}
		return nil
	})
}

// set writes the settings of the calling thread's network namespace. Settings
// that the kernel does not have are left out.
func set(settings ...sysctl) error {
	for _, s := range settings {
		if err := s.write(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s sysctl) write() error {
	if err := os.WriteFile(filepath.Join("/proc/sys/net", s.name), []byte(s.value), 0o644); err != nil {
		return fmt.Errorf("cannot set net/%s: %w", s.name, err)
	}
	return nil
}
