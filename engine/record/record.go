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
)

// envelope is what lies in a file: the schema number says how to read Data.
type envelope struct {
	Schema int             `json:"schema"`
	Data   json.RawMessage `json:"data"`
}

// Store keeps documents of one kind, one file each, in one directory.
type Store[T any] struct {
	dir     string
	file    string // "" means dir/<id>.json, else dir/<id>/<file>
	schema  int
	upgrade func(schema int, data []byte) ([]byte, error)
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
	s := &Store[T]{dir: dir, file: o.File, schema: o.Schema, upgrade: o.Upgrade}
	pattern := filepath.Join(dir, ".*.tmp")
	if o.File != "" {
		pattern = filepath.Join(dir, "*", ".*.tmp")
	}
	left, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
//
// Preconditions: id is a file name (no separator, not "." or "..").
func (s *Store[T]) Save(id string, doc *T) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("cannot encode record %s: %w", id, err)
	}
	b, err := json.Marshal(envelope{Schema: s.schema, Data: data})
	if err != nil {
		return fmt.Errorf("cannot encode record %s: %w", id, err)
	}
	path := s.path(id)
	if s.file != "" {
		if err := makeDir(filepath.Dir(path)); err != nil {
			return fmt.Errorf("cannot save record %s: %w", id, err)
		}
	}
	if err := WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("cannot save record %s: %w", id, err)
	}
	return nil
}

// Load reads the document id. A missing one is fs.ErrNotExist.
func (s *Store[T]) Load(id string) (*T, error) {
	b, err := os.ReadFile(s.path(id))
	if err != nil {
		return nil, err
	}
	doc, err := s.decode(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read record %s: %w", s.path(id), err)
	}
	return doc, nil
}

func (s *Store[T]) decode(b []byte) (*T, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, err
	}
	switch {
	case e.Schema > s.schema:
		return nil, fmt.Errorf("it has schema %d, written by a newer kelp; this one reads up to %d", e.Schema, s.schema)
	case e.Schema < s.schema:
		if s.upgrade == nil {
			return nil, fmt.Errorf("it has the unknown schema %d", e.Schema)
		}
		data, err := s.upgrade(e.Schema, e.Data)
		if err != nil {
			return nil, fmt.Errorf("cannot upgrade it from schema %d: %w", e.Schema, err)
		}
		e.Data = data
	}
	doc := new(T)
	return doc, json.Unmarshal(e.Data, doc)
}

// Delete removes the document id, and its directory with all that is in it
// when File was set. Deleting what is not there is no error.
func (s *Store[T]) Delete(id string) error {
	if s.file == "" {
		if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return syncDir(s.dir)
	}
	// The document goes first: a directory without one is an object that is gone.
	if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(s.Dir(id)); err != nil {
		return err
	}
	return syncDir(s.dir)
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
			if id, ok = strings.CutSuffix(id, ".json"); !ok {
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

func makeDir(dir string) error {
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		return syncDir(filepath.Dir(dir))
	case errors.Is(err, fs.ErrExist):
		return nil
	default:
		return err
	}
}

// WriteFile replaces the file at path by one with the given content, durably
// and in one step: a temporary file, fsync, rename, fsync of the directory.
func WriteFile(path string, content []byte, mode fs.FileMode) (err error) {
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
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
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
