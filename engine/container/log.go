package container

import (
	"github.com/kelp-engine/kelp/engine/keeper"
)

// logTarget says where the keeper keeps the container's output.
func (m *runner) logTarget(r *Record) keeper.Log {
	return keeper.Log{Driver: "json-file", Path: m.LogPath(r.ID), MaxFile: 1}
}
