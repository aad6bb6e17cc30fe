package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/kelp-engine/kelp/engine/keeper/pid1"
	"github.com/kelp-engine/kelp/engine/keeper/program"
	"github.com/kelp-engine/kelp/engine/record"
)

// initProgram is the file that `docker run --init` mounts into containers:
// the keeper's program by another name. It is written when first asked for.
type initProgram struct {
	dir string

	mu      sync.Mutex
	written bool // guarded by mu
}

// path returns where the file is. Containers that run with an older one keep
// it: a new one takes its name only.
func (p *initProgram) path() (string, error) {
	path := filepath.Join(p.dir, pid1.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written {
		return path, nil
	}
	content, err := program.Content()
	if err != nil {
		return "", err
	}
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, content) {
		if err := record.WriteFile(path, content, 0o755); err != nil {
			return "", fmt.Errorf("cannot write the program of --init: %w", err)
		}
	}
	if err := os.Chmod(path, 0o755); err != nil { // whatever the umask
		return "", fmt.Errorf("cannot make the program of --init executable: %w", err)
	}
	p.written = true
	return path, nil
}
