// Package fault makes the errors that reach people and API clients: each has
// an errdefs class that a machine can test, a message for people, and where
// the user can do something about it, a hint.
//
// It must not know HTTP; apiserver turns classes into status codes.
package fault

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

// Error is an error of one class. Its text is the message followed by its
// hint; errors.Is matches the errdefs class and every wrapped cause.
type Error struct {
	class error
	msg   error
	hint  string
}

func (e *Error) Error() string {
	if e.hint == "" {
		return e.msg.Error()
	}
	return e.msg.Error() + ": " + e.hint
}

// Unwrap lets errors.Is see both the class and the causes given with %w.
func (e *Error) Unwrap() []error { return []error{e.class, e.msg} }

// Hint returns what the user can do about the error, or "".
func (e *Error) Hint() string { return e.hint }

// WithHint returns a copy of e that also tells the user what to do. Format a
// hint as the end of a sentence, without a final full stop.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.hint = fmt.Sprintf(format, args...)
	return &c
}

func newf(class error, format string, args []any) *Error {
	return &Error{class: class, msg: fmt.Errorf(format, args...)}
}

// InvalidArgument: the request itself is wrong (HTTP 400).
func InvalidArgument(format string, args ...any) *Error {
	return newf(errdefs.ErrInvalidArgument, format, args)
}

// NotFound: the named object does not exist (HTTP 404).
func NotFound(format string, args ...any) *Error {
	return newf(errdefs.ErrNotFound, format, args)
}

// Conflict: the object's state does not allow the request (HTTP 409).
func Conflict(format string, args ...any) *Error {
	return newf(errdefs.ErrConflict, format, args)
}

// NotModified: the object already is as the request wants it (HTTP 304).
func NotModified(format string, args ...any) *Error {
	return newf(errdefs.ErrNotModified, format, args)
}

// Unauthenticated: credentials are missing or wrong (HTTP 401).
func Unauthenticated(format string, args ...any) *Error {
	return newf(errdefs.ErrUnauthenticated, format, args)
}

// PermissionDenied: the caller may not do this (HTTP 403).
func PermissionDenied(format string, args ...any) *Error {
	return newf(errdefs.ErrPermissionDenied, format, args)
}

// NotImplemented: kelp does not offer this (HTTP 501).
func NotImplemented(format string, args ...any) *Error {
	return newf(errdefs.ErrNotImplemented, format, args)
}

// Unavailable: it may work when tried again (HTTP 503).
func Unavailable(format string, args ...any) *Error {
	return newf(errdefs.ErrUnavailable, format, args)
}

// Internal: kelp or the machine failed (HTTP 500).
func Internal(format string, args ...any) *Error {
	return newf(errdefs.ErrInternal, format, args)
}

// HintOf returns the hint of the first error in err's tree that has one.
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.hint
	}
	return ""
}

const internal = "internal"

// classes are the classes that cross the keeper's socket, by wire name.
var classes = map[string]error{
	"invalid-argument":  errdefs.ErrInvalidArgument,
	"not-found":         errdefs.ErrNotFound,
	"conflict":          errdefs.ErrConflict,
	"not-modified":      errdefs.ErrNotModified,
	"permission-denied": errdefs.ErrPermissionDenied,
	"not-implemented":   errdefs.ErrNotImplemented,
	"unavailable":       errdefs.ErrUnavailable,
	internal:            errdefs.ErrInternal,
}

// Wire is an Error as JSON, for the socket between the engine and the keeper.
type Wire struct {
	Class   string `json:"class"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// ToWire encodes err; nil stays nil. An error of no class becomes internal.
func ToWire(err error) *Wire {
	if err == nil {
		return nil
	}
	w := &Wire{Class: className(err), Message: err.Error()}
	if e, ok := errors.AsType[*Error](err); ok && e.hint != "" && err == error(e) {
		w.Message, w.Hint = e.msg.Error(), e.hint
	}
	return w
}

// className is the wire name of an error's class: of several in its tree the
// outermost counts, but any is more than internal.
func className(err error) string {
	for name, class := range classes {
		if err == class {
			return name
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if cause := e.Unwrap(); cause != nil {
			return className(cause)
		}
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			if name := className(cause); name != internal {
				return name
			}
		}
	}
	return internal
}

// Err decodes w; nil stays nil. An unknown class becomes internal.
func (w *Wire) Err() error {
	if w == nil {
		return nil
	}
	class, ok := classes[w.Class]
	if !ok {
		class = errdefs.ErrInternal
	}
	return &Error{class: class, msg: errors.New(w.Message), hint: w.Hint}
}
