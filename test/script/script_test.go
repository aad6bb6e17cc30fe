// Package script holds the script tests: each file runs the real docker client
// against a kelp of its own, as an ordinary user. See harness.Scripts for what
// a script can do.
package script

import (
	"testing"

	"github.com/kelp-engine/kelp/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestScripts(t *testing.T) { harness.Scripts(t, ".") }
