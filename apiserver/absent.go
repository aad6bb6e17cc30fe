package apiserver

import (
	"context"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/plugin"

	"github.com/kelp-engine/kelp/engine/fault"
)

// absentRoutes are what kelp does not offer, answered as Docker answers
// without it, so that clients that merely ask go on.
var absentRoutes = []route{
	{"POST", "/swarm/init", (*Server).noSwarm},
	{"POST", "/swarm/join", (*Server).noSwarm},
	{"GET", "/swarm", (*Server).noManager},
	{"GET", "/swarm/unlockkey", (*Server).noManager},
	{"POST", "/swarm/unlock", (*Server).noManager},
	{"POST", "/swarm/update", (*Server).noManager},
	{"POST", "/swarm/leave", (*Server).noMember},
	{"GET", "/{kind:nodes|services|tasks|secrets|configs}", (*Server).noManager},
	{"GET", "/{kind:nodes|services|tasks|secrets|configs}/{ref}", (*Server).noManager},
	{"GET", "/{kind:services|tasks}/{ref}/logs", (*Server).noManager},
	{"DELETE", "/{kind:nodes|services|secrets|configs}/{ref}", (*Server).noManager},
	{"POST", "/{kind:services|secrets|configs}/create", (*Server).noManager},
	{"POST", "/{kind:nodes|services|secrets|configs}/{ref}/update", (*Server).noManager},

	{"GET", "/plugins", (*Server).pluginList},
	{"GET", "/plugins/privileges", (*Server).noPlugins},
	{"POST", "/plugins/pull", (*Server).noPlugins},
	{"POST", "/plugins/create", (*Server).noPlugins},
	{"GET", "/plugins/{ref:.+}/json", (*Server).noPlugin},
	{"POST", "/plugins/{ref:.+}/{action:enable|disable|upgrade|push|set}", (*Server).noPlugin},
	{"DELETE", "/plugins/{ref:.+}", (*Server).noPlugin},

	{"POST", "/build", (*Server).noBuild},
	{"POST", "/build/cancel", (*Server).noBuild},
	{"POST", "/build/prune", (*Server).buildPrune},
	{"POST", "/session", (*Server).noBuild},
	{"POST", "/grpc", (*Server).noBuild},

	{"GET", "/containers/{ref}/checkpoints", (*Server).noCheckpoints},
	{"POST", "/containers/{ref}/checkpoints", (*Server).noCheckpoints},
	{"DELETE", "/containers/{ref}/checkpoints/{checkpoint}", (*Server).noCheckpoints},
}

// noManager answers requests for objects of a swarm.
func (s *Server) noManager(context.Context, *request) (response, error) {
	return nil, fault.Unavailable(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

// noMember answers a request to leave the swarm.
func (s *Server) noMember(context.Context, *request) (response, error) {
	return nil, fault.Unavailable("This node is not part of a swarm")
}

// noSwarm answers requests to make or join one.
func (s *Server) noSwarm(context.Context, *request) (response, error) {
	return nil, fault.NotImplemented("kelp does not offer swarm mode yet")
}

// pluginList serves GET /plugins.
func (s *Server) pluginList(context.Context, *request) (response, error) {
	return ok([]plugin.Plugin{}), nil
}

// noPlugins answers requests to install plugins.
func (s *Server) noPlugins(context.Context, *request) (response, error) {
	return nil, fault.NotImplemented("kelp does not offer plugins")
}

// noPlugin answers requests for a plugin: there is none.
func (s *Server) noPlugin(_ context.Context, r *request) (response, error) {
	return nil, fault.NotFound("plugin %q not found", r.ref())
}

// noBuild answers requests to build images.
func (s *Server) noBuild(context.Context, *request) (response, error) {
	return nil, fault.NotImplemented("kelp does not build images yet").
		WithHint("build elsewhere and bring the image here with 'docker load' or 'docker pull'")
}

// buildPrune serves POST /build/prune: there is no build cache.
func (s *Server) buildPrune(context.Context, *request) (response, error) {
	return ok(build.CachePruneReport{CachesDeleted: []string{}}), nil
}

// noCheckpoints answers requests for checkpoints of a container.
func (s *Server) noCheckpoints(context.Context, *request) (response, error) {
	return nil, fault.NotImplemented("kelp does not offer checkpoints")
}
