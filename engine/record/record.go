// Package record keeps small JSON documents on disk so that a crash at any
// point leaves either the old document or the new one, never a mixture. It is
// the only package that writes state files.
//
// It must not know what a document means; each kind owns its own records.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/kelp-engine/kelp/engine/crashpoint"
)

// envelope is what lies in a file: the schema number says how to read Data.
type envelope struct {
	Schema int `json:"schema"`
	// Revision counts the saves of a document, so that of two files of it the
	// newer one is known.
	Revision uint64          `json:"revision,omitempty"`
	Data     json.RawMessage `json:"data"`
}

// recent is what the name of a file ends in that SaveRecent wrote.
const recent = ".recent"

// Store keeps documents of one kind, one file each, in one directory.
type Store[T any] struct {
	dir     string
	file    string // "" means dir/<id>.json, else dir/<id>/<file>
	schema  int
	upgrade func(schema int, data []byte) ([]byte, error)

	mu        sync.Mutex
	revisions map[string]uint64 // by id, of documents loaded or saved
}

// Options for NewStore.
type Options struct {
	// File, when set, keeps each document as dir/<id>/File, in a directory of
	// its own that other files of the object may share.
	File string
	// Schema is the number written with each document; it starts at 1.
	Schema int
	// Upgrade turns the data of an older schema into that of Schema. Nil
	// means that there is no older schema.
	Upgrade func(schema int, data []byte) ([]byte, error)
}

// NewStore makes dir (mode 0700) if needed and removes what an interrupted
// Save left there.
func NewStore[T any](dir string, o Options) (*Store[T], error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the record directory: %w", err)
	}
	s := &Store[T]{dir: dir, file: o.File, schema: o.Schema, upgrade: o.Upgrade, revisions: map[string]uint64{}}
	pattern := ".*.tmp"
	if o.File != "" {
		pattern = "*/.*.tmp"
	}
	left, err := fs.Glob(os.DirFS(dir), pattern) // dir itself may have a pattern's characters
	if err != nil {
		return nil, err
	}
	for _, f := range left {
		if err := os.Remove(filepath.Join(dir, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return s, nil
}

// Dir returns the directory of the document id when File was set, else the
// directory of all documents.
func (s *Store[T]) Dir(id string) string {
	if s.file != "" {
		return filepath.Join(s.dir, id)
	}
	return s.dir
}

func (s *Store[T]) path(id string) string {
	if s.file != "" {
		return filepath.Join(s.dir, id, s.file)
	}
	return filepath.Join(s.dir, id+".json")
}

// Save writes the document id durably: when it returns nil, the new content
// survives a power cut; when it returns an error, the old content does.
// Saves of one document must not run at the same time.
//
// Preconditions: id is a file name (no separator, not "." or "..").
func (s *Store[T]) Save(id string, doc *T) error {
	return s.save(id, doc, s.path(id), true)
}

// SaveRecent writes the document id so that the new content survives the
// death of this process, but perhaps not a power cut, after which the content
// is that of the last Save or of a SaveRecent since. It costs no wait for the
// disk: it is for what a power cut makes untrue anyway, such as which process
// runs. Saves of one document must not run at the same time.
//
// It never touches the durable file: a file replaced without fsync may come
// out of a power cut empty.
//
// Preconditions: id is a file name (no separator, not "." or "..").
func (s *Store[T]) SaveRecent(id string, doc *T) error {
	return s.save(id, doc, s.path(id)+recent, false)
}

func (s *Store[T]) save(id string, doc *T, path string, durable bool) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("cannot encode record %s: %w", id, err)
	}
	b, err := json.Marshal(envelope{Schema: s.schema, Revision: s.nextRevision(id), Data: data})
	if err != nil {
		return fmt.Errorf("cannot encode record %s: %w", id, err)
	}
	if s.file != "" {
		if err := makeDir(filepath.Dir(path), durable); err != nil {
			return fmt.Errorf("cannot save record %s: %w", id, err)
		}
	}
	if err := writeFile(path, b, 0o600, durable); err != nil {
		return fmt.Errorf("cannot save record %s: %w", id, err)
	}
	return nil
}

func (s *Store[T]) nextRevision(id string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[id]++
	return s.revisions[id]
}

func (s *Store[T]) setRevision(id string, r uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[id] = max(s.revisions[id], r)
}

// Load reads the document id. A missing one is fs.ErrNotExist.
func (s *Store[T]) Load(id string) (*T, error) {
	doc, revision, err := s.read(s.path(id))
	// A recent file that a power cut tore cannot be read: the durable one stands.
	newer, r, recentErr := s.read(s.path(id) + recent)
	switch {
	case recentErr == nil && (err == nil && r > revision || errors.Is(err, fs.ErrNotExist)):
		doc, revision = newer, r
	case err != nil:
		return nil, err
	}
	s.setRevision(id, revision)
	return doc, nil
}

func (s *Store[T]) read(path string) (*T, uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	doc, revision, err := s.decode(b)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read record %s: %w", path, err)
	}
	return doc, revision, nil
}

func (s *Store[T]) decode(b []byte) (*T, uint64, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, 0, err
	}
	switch {
	case e.Schema > s.schema:
		return nil, 0, fmt.Errorf("it has schema %d, written by a newer kelp; this one reads up to %d", e.Schema, s.schema)
	case e.Schema < s.schema:
		if s.upgrade == nil {
			return nil, 0, fmt.Errorf("it has the unknown schema %d", e.Schema)
		}
		data, err := s.upgrade(e.Schema, e.Data)
		if err != nil {
			return nil, 0, fmt.Errorf("cannot upgrade it from schema %d: %w", e.Schema, err)
		}
		e.Data = data
	}
	doc := new(T)
	return doc, e.Revision, json.Unmarshal(e.Data, doc)
}

// Delete removes the document id durably, and its directory with all that is
// in it when File was set. Deleting what is not there is no error.
func (s *Store[T]) Delete(id string) error {
	if err := s.DeleteRecent(id); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// DeleteRecent is Delete without the wait for the disk: a power cut may bring
// the document back, as its last Save left it.
func (s *Store[T]) DeleteRecent(id string) error {
	s.mu.Lock()
	delete(s.revisions, id)
	s.mu.Unlock()
	// The document goes first: a directory without one is an object that is
	// gone. Of its files the recent one goes last: it has the newer state.
	for _, path := range []string{s.path(id), s.path(id) + recent} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if s.file == "" {
		return nil
	}
	crashpoint.Hit("record.delete.document")
	return os.RemoveAll(s.Dir(id))
}

// All reads every document, by id. A document that cannot be read is left out
// and reported in errs by id, so that one bad file does not stop start-up.
// Directories without a document (an interrupted Delete) are removed.
func (s *Store[T]) All() (docs map[string]*T, errs map[string]error, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, err
	}
	docs, errs = map[string]*T{}, map[string]error{}
	for _, e := range entries {
		id := e.Name()
		if s.file == "" {
			var ok bool
			if id, ok = strings.CutSuffix(strings.TrimSuffix(id, recent), ".json"); !ok || docs[id] != nil {
				continue
			}
		} else if !e.IsDir() {
			continue
		}
		doc, err := s.Load(id)
		switch {
		case err == nil:
			docs[id] = doc
		case s.file != "" && errors.Is(err, fs.ErrNotExist):
			if err := os.RemoveAll(s.Dir(id)); err != nil {
				errs[id] = err
			}
		default:
			errs[id] = err
		}
	}
	return docs, errs, nil
}

func makeDir(dir string, durable bool) error {
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil && durable:
		return syncDir(filepath.Dir(dir))
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return nil
	default:
		return err
	}
}

// WriteFile replaces the file at path by one with the given content, durably
// and in one step: a temporary file, fsync, rename, fsync of the directory.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	return writeFile(path, content, mode, true)
}

// Rewrite replaces the content of a file in place, for files that are mounted
// into containers: a mount is of the file, not of its name. A crash may leave
// it half written, so it must be one that is made anew.
func Rewrite(path string, content []byte, mode fs.FileMode) error {
	return os.WriteFile(path, content, mode)
}

func writeFile(path string, content []byte, mode fs.FileMode, durable bool) (err error) {
	dir, base := filepath.Split(path)
	f, err := os.OpenFile(filepath.Join(dir, "."+base+".tmp"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if durable {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	crashpoint.Hit("record.write.temporary")
	if err := os.Rename(f.Name(), path); err != nil || !durable {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
