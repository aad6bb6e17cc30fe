// Command mobyclient uses kelp through github.com/moby/moby/client: the calls
// whose answers that library turns into types, channels and errors of its own.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := client.New(client.FromEnv)
	if err == nil {
		err = run(ctx, c)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("all is well")
}

func run(ctx context.Context, c *client.Client) error {
	p, err := c.Ping(ctx, client.PingOptions{})
	if err != nil || p.OSType != "linux" || p.APIVersion == "" {
		return fmt.Errorf("ping: %+v, %w", p, err)
	}
	watched := c.Events(ctx, client.EventsListOptions{Filters: client.Filters{}.Add("type", "container")})
	net, err := c.NetworkCreate(ctx, "reef", client.NetworkCreateOptions{Labels: map[string]string{"reef": "yes"}})
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	cat, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name:             "cat",
		Config:           &container.Config{Image: "busybox", Cmd: []string{"cat"}, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true},
		HostConfig:       &container.HostConfig{NetworkMode: "reef", Binds: []string{"reef:/data"}},
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"reef": {Aliases: []string{"tom"}}}},
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for _, step := range []func(context.Context, *client.Client, string) error{attach, list, copies, execs, wrong} {
		if err := step(ctx, c, cat.ID); err != nil {
			return err
		}
	}
	if _, err := c.ContainerRemove(ctx, cat.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if _, err := c.NetworkRemove(ctx, net.ID, client.NetworkRemoveOptions{}); err != nil {
		return fmt.Errorf("remove network: %w", err)
	}
	if _, err := c.VolumeRemove(ctx, "reef", client.VolumeRemoveOptions{}); err != nil {
		return fmt.Errorf("remove volume: %w", err)
	}
	return saw(watched, events.ActionCreate, events.ActionAttach, events.ActionStart, events.ActionDie, events.ActionStart, events.ActionExecDie, events.ActionDestroy)
}

// attach starts the container with its streams attached, ends its input and
// waits for it in the way that was asked for before it ran.
func attach(ctx context.Context, c *client.Client, id string) error {
	streams, err := c.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	defer streams.Close()
	if kind, ok := streams.MediaType(); !ok || kind != "application/vnd.docker.multiplexed-stream" {
		return fmt.Errorf("attach: the stream is of type %q", kind)
	}
	ended := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := c.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	fmt.Fprintln(streams.Conn, "typed")
	if err := streams.CloseWrite(); err != nil {
		return err
	}
	var out, stderr bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &stderr, streams.Reader); err != nil || out.String() != "typed\n" {
		return fmt.Errorf("attach: read %q and %q: %w", &out, &stderr, err)
	}
	select {
	case r := <-ended.Result:
		if r.StatusCode != 0 {
			return fmt.Errorf("wait: %+v", r)
		}
	case err := <-ended.Error:
		return fmt.Errorf("wait: %w", err)
	}
	logs, err := c.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, Timestamps: true})
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	defer logs.Close()
	out.Reset()
	if _, err := stdcopy.StdCopy(&out, &stderr, logs); err != nil || !bytes.HasSuffix(out.Bytes(), []byte(" typed\n")) {
		return fmt.Errorf("logs: %q, %w", &out, err)
	}
	_, err = c.ContainerStart(ctx, id, client.ContainerStartOptions{})
	return err
}

func list(ctx context.Context, c *client.Client, id string) error {
	l, err := c.ContainerList(ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("network", "reef").Add("status", "running")})
	if err != nil || len(l.Items) != 1 || l.Items[0].ID != id || l.Items[0].State != container.StateRunning {
		return fmt.Errorf("list: %+v, %w", l, err)
	}
	i, err := c.ContainerInspect(ctx, id, client.ContainerInspectOptions{Size: true})
	if err != nil || i.Container.SizeRootFs == nil || !i.Container.NetworkSettings.Networks["reef"].IPAddress.IsValid() {
		return fmt.Errorf("inspect: %s, %w", i.Raw, err)
	}
	n, err := c.NetworkInspect(ctx, "reef", client.NetworkInspectOptions{Verbose: true})
	if err != nil || n.Network.Containers[id].Name != "cat" {
		return fmt.Errorf("inspect network: %s, %w", n.Raw, err)
	}
	s, err := c.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return fmt.Errorf("stats: %w", err)
	}
	defer s.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(s.Body).Decode(&stats); err != nil || stats.ID != id || stats.OSType != "linux" {
		return fmt.Errorf("stats: %+v, %w", stats, err)
	}
	du, err := c.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, Verbose: true})
	if err != nil || du.Containers.ActiveCount != 1 || len(du.Volumes.Items) != 1 || du.Images.TotalSize == 0 {
		return fmt.Errorf("disk usage: %+v, %w", du, err)
	}
	return nil
}

// copies exports the container's /bin and puts a part of it into its volume.
func copies(ctx context.Context, c *client.Client, id string) error {
	from, err := c.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/etc/group"})
	if err != nil || from.Stat.Name != "group" {
		return fmt.Errorf("copy out: %+v, %w", from.Stat, err)
	}
	defer from.Content.Close()
	if _, err := c.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/data", Content: from.Content}); err != nil {
		return fmt.Errorf("copy in: %w", err)
	}
	st, err := c.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/data/group"})
	if err != nil || st.Stat.Size != from.Stat.Size || st.Stat.Mode != from.Stat.Mode {
		return fmt.Errorf("stat: %+v, %w", st, err)
	}
	return nil
}

// execs runs one command on a terminal of a given size and one detached.
func execs(ctx context.Context, c *client.Client, id string) error {
	e, err := c.ExecCreate(ctx, id, client.ExecCreateOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 30, Width: 99}, AttachStdout: true, Cmd: []string{"stty", "size"}})
	if err != nil {
		return fmt.Errorf("exec create: %w", err)
	}
	streams, err := c.ExecAttach(ctx, e.ID, client.ExecAttachOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 30, Width: 99}})
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	defer streams.Close()
	if out, err := io.ReadAll(streams.Reader); err != nil || string(out) != "30 99\r\n" {
		return fmt.Errorf("exec printed %q: %w", out, err)
	}
	e, err = c.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"sh", "-c", "exit 9"}})
	if err != nil {
		return fmt.Errorf("exec create: %w", err)
	}
	if _, err := c.ExecStart(ctx, e.ID, client.ExecStartOptions{Detach: true}); err != nil {
		return fmt.Errorf("exec start: %w", err)
	}
	for {
		switch i, err := c.ExecInspect(ctx, e.ID, client.ExecInspectOptions{}); {
		case err != nil:
			return fmt.Errorf("exec inspect: %w", err)
		case !i.Running && i.ExitCode == 9:
			return nil
		case !i.Running:
			return fmt.Errorf("exec ended as %+v", i)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// wrong makes requests that fail, each with a class of its own.
func wrong(ctx context.Context, c *client.Client, id string) error {
	_, notFound := c.ContainerInspect(ctx, "nobody", client.ContainerInspectOptions{})
	_, conflict := c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{})
	_, taken := c.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "cat", Image: "busybox"})
	_, invalid := c.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "a b", Image: "busybox"})
	_, inUse := c.VolumeRemove(ctx, "reef", client.VolumeRemoveOptions{})
	_, noImage := c.ContainerCreate(ctx, client.ContainerCreateOptions{Image: "no-such-image"})
	_, forbidden := c.NetworkRemove(ctx, "bridge", client.NetworkRemoveOptions{})
	for what, ok := range map[string]bool{
		"inspect": errdefs.IsNotFound(notFound), "remove": errdefs.IsConflict(conflict), "taken name": errdefs.IsConflict(taken),
		"bad name": errdefs.IsInvalidArgument(invalid), "volume": errdefs.IsConflict(inUse), "image": errdefs.IsNotFound(noImage),
		"bridge": errdefs.IsPermissionDenied(forbidden),
	} {
		if !ok {
			return fmt.Errorf("%s: of another class: %v", what, []error{notFound, conflict, taken, invalid, inUse, noImage, forbidden})
		}
	}
	return nil
}

// saw waits for events of these actions, in this order.
func saw(watched client.EventsResult, actions ...events.Action) error {
	for deadline := time.After(time.Minute); len(actions) > 0; {
		select {
		case e := <-watched.Messages:
			if e.Action == actions[0] {
				actions = actions[1:]
			}
		case err := <-watched.Err:
			return fmt.Errorf("events: %w", err)
		case <-deadline:
			return fmt.Errorf("no event %s", actions[0])
		}
	}
	return nil
}
