package cmd

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/enter"
)

const (
	asMeFlag       = "as-me"
	privilegedFlag = "privileged"
)

var nsCommand = &cli.Command{
	Name:      "ns",
	Usage:     "run a command of this machine inside the network of containers",
	ArgsUsage: "[COMMAND [ARGUMENT...]]",
	Description: `   kelp ns curl http://web/                        in the default network
   kelp ns --network backend psql -h db -U app     in another one
   kelp ns --container web tcpdump -i eth0         in a container's own

The command sees this machine's files and processes, as you, and the containers' network and
names. Without a command it runs your shell.

It appears to be root, so that it can read packets and serve low ports; no other user's number
has powers over the network. It cannot change the network: isolation and the way out hang on
its rules, routes and devices. For programs that ask who you are or refuse to be root (ssh,
psql, browsers) there is --as-me, to change the network (tc, nft) --privileged.`,
	Flags: append([]cli.Flag{
		networkFlag,
		&cli.StringFlag{Name: "container", Usage: "`CONTAINER` whose network is meant"},
		&cli.BoolFlag{Name: asMeFlag, Usage: "appear as yourself, without powers over the network"},
		&cli.BoolFlag{Name: privilegedFlag, Usage: "let the command change the network, and break it"},
	}, placeFlags...),
	Action: func(c *cli.Context) error {
		args := c.Args().Slice()
		if len(args) == 0 {
			args = []string{cmp.Or(os.Getenv("SHELL"), "/bin/sh")}
		}
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		r, err := findServing(c.Context, s)
		if err != nil {
			return err
		}
		n := nsStage{Args: args, RuntimeDir: s.RuntimeDir, Privileged: c.Bool(privilegedFlag)}
		if c.Bool(asMeFlag) {
			if n.Privileged {
				return fault.InvalidArgument("--as-me and --privileged contradict each other")
			}
			n.User = &nsUser{UID: os.Getuid(), GID: os.Getgid()}
		}
		if ref := c.String("container"); ref != "" {
			if c.IsSet(networkFlag.Name) {
				return fault.InvalidArgument("--network and --container contradict each other")
			}
			return r.enterContainer(c.Context, n, ref)
		}
		return r.enterNetwork(c.Context, n, c.String(networkFlag.Name))
	},
}

// enterNetwork runs the stage in the namespace of a network, where nobody
// resolves names yet.
func (r running) enterNetwork(ctx context.Context, n nsStage, ref string) error {
	found, err := r.network(ctx, cmp.Or(ref, network.NetworkBridge))
	if err != nil {
		return err
	}
	live, err := r.client.Networks().ListNetworks(ctx)
	if err != nil {
		return err
	}
	for _, l := range live {
		if l.ID == found.ID {
			if n.Resolver, err = r.startResolver(found.ID); err != nil {
				return err
			}
			return r.enter(n, l.Path)
		}
	}
	return fault.NotFound("no container is on the network %s, so there is nothing to enter", found.Name).
		WithHint("start one: docker run --network %s …", found.Name)
}

// enterContainer runs the stage in the namespace of a container.
func (r running) enterContainer(ctx context.Context, n nsStage, ref string) error {
	var c container.InspectResponse
	if err := r.getJSON(ctx, "/containers/"+url.PathEscape(ref)+"/json", &c); err != nil {
		return err
	}
	switch {
	case c.State == nil || c.State.Pid == 0:
		return fault.Conflict("container %s is not running", ref)
	case c.HostConfig.NetworkMode.IsHost():
		return runCommand(n.Args, os.Environ())
	}
	if c.ResolvConfPath != "" {
		conf, err := os.ReadFile(c.ResolvConfPath)
		if err != nil {
			return fmt.Errorf("cannot read the container's resolvers: %w", err)
		}
		n.ResolvConf = conf
	}
	return r.enter(n, fmt.Sprintf("/proc/%d/ns/net", c.State.Pid))
}

// enter becomes the stage, in kelp's user namespace and a network namespace.
func (r running) enter(n nsStage, netNS string) error {
	err := enter.Exec(fmt.Sprintf("/proc/%d/ns/user", r.PID), netNS, append(os.Environ(), nsEnv+"="+encode(n)))
	return fmt.Errorf("cannot enter the network: %w", err)
}
