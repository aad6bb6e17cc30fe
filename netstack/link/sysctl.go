package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// sysctl is one setting below /proc/sys/net, for instance
// {"ipv4/ip_forward", "1"}.
type sysctl struct{ name, value string }

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
