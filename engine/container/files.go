package container

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/kelp-engine/kelp/engine/record"
)

// maxOwnFile bounds the files in /etc that are edited: the container may have
// written anything there.
const maxOwnFile = 1 << 20

// etcFiles are the files in /etc that containers have of their own.
type etcFiles struct {
	g  *registry
	mu sync.Mutex // one edit at a time
}

// UpdateFiles follows a change of a running container's networks in its files
// in /etc, which its user may have edited: lines of hosts come and go one by
// one, and a resolv.conf that was changed is left alone.
func (e *etcFiles) UpdateFiles(id string, before, now *Network) error {
	return errors.Join(
		e.edit(filepath.Join(e.g.dir(id), "hosts"), func(b []byte) []byte { return exchangeLines(b, before.Hosts, now.Hosts) }),
		e.edit(filepath.Join(e.g.dir(id), "resolv.conf"), func(b []byte) []byte {
			if bytes.Equal(b, before.ResolvConf) {
				return now.ResolvConf
			}
			return b
		}),
	)
}

// edit changes a file in place. One that is not there is the image's own.
func (e *etcFiles) edit(path string, edit func([]byte) []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxOwnFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxOwnFile {
		return fmt.Errorf("%s has more than %d bytes", path, maxOwnFile)
	}
	edited := edit(b)
	if bytes.Equal(edited, b) {
		return nil
	}
	return record.Rewrite(path, edited, 0o644)
}

// exchangeLines takes out of b the lines that only before has, and appends
// those that only now has.
func exchangeLines(b, before, now []byte) []byte {
	has := func(text, line []byte) bool {
		for l := range bytes.Lines(text) {
			if bytes.Equal(bytes.TrimRight(l, "\n"), line) {
				return true
			}
		}
		return false
	}
	var out []byte
	for l := range bytes.Lines(b) {
		if line := bytes.TrimRight(l, "\n"); !has(before, line) || has(now, line) {
			out = append(append(out, line...), '\n')
		}
	}
	for l := range bytes.Lines(now) {
		if line := bytes.TrimRight(l, "\n"); !has(before, line) && !has(out, line) {
			out = append(append(out, line...), '\n')
		}
	}
	return out
}
