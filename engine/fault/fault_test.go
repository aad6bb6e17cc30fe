package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/containerd/errdefs"
)

func TestClassesCrossTheSocket(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"none", io.EOF, errdefs.ErrInternal},
		{"one", NotFound("x"), errdefs.ErrNotFound},
		{"wrapped", fmt.Errorf("y: %w", Conflict("x")), errdefs.ErrConflict},
		{"joined", errors.Join(io.EOF, Conflict("x")), errdefs.ErrConflict},
		{"the outer of two", InvalidArgument("y: %w", NotFound("x")), errdefs.ErrInvalidArgument},
		{"the one that says more than internal", Internal("y: %w", NotFound("x")), errdefs.ErrNotFound},
	} {
		for range 20 { // there is no chance in it
			got := ToWire(tt.err).Err()
			if !errors.Is(got, tt.want) || got.Error() != tt.err.Error() {
				t.Fatalf("%s: %v of class %v, want %v", tt.name, got, errors.Unwrap(got), tt.want)
			}
		}
	}
	if ToWire(nil) != nil || (*Wire)(nil).Err() != nil {
		t.Error("no error became one")
	}
}
