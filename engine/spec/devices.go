package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func addDevices(s *specs.Spec, in Input) error { return nil }
