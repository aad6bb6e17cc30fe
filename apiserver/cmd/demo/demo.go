// Package demo runs a container from an image that is embedded in kelp, as
// any client of the Engine API would, and says what ran, where and as whom.
//
// It must not use anything of kelp's engine but its socket.
package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kelp-engine/kelp/userns/account"
)

// Run shows on out that the engine behind socket works, and leaves neither
// container nor image behind.
func Run(ctx context.Context, socket string, out io.Writer) (err error) {
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := load(ctx, c); err != nil {
		return fmt.Errorf("cannot load the demo's image: %w", err)
	}
	defer func() { // also when ctx has ended
		_, rerr := c.ImageRemove(context.WithoutCancel(ctx), Image, client.ImageRemoveOptions{Force: true})
		if err == nil {
			err = rerr
		}
	}()
	begun := time.Now()
	r, err := run(ctx, c)
	if err != nil {
		return fmt.Errorf("cannot run the demo's container: %w", err)
	}
	took := time.Since(begun)
	for line := range strings.Lines(r.output) {
		fmt.Fprint(out, "  | ", line)
	}
	if r.code != 0 {
		return fmt.Errorf("the demo's container exited with code %d", r.code)
	}
	fmt.Fprintf(out, "container %.12s of image %s (embedded in kelp) exited with code 0;\n", r.id, Image)
	fmt.Fprintf(out, "created, started, waited for and removed in %d ms\n", took.Milliseconds())
	fmt.Fprintf(out, "through unix://%s\nas %s, with no privileges\n", socket, whoami())
	return nil
}

func load(ctx context.Context, c *client.Client) error {
	image, err := archive()
	if err != nil {
		return err
	}
	progress, err := c.ImageLoad(ctx, bytes.NewReader(image), client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer progress.Close()
	if _, err := io.Copy(io.Discard, progress); err != nil {
		return err
	}
	_, err = c.ImageInspect(ctx, Image) // an error may have come as progress
	return err
}

type result struct {
	id     string
	code   int64
	output string
}

// run runs the container to its end and removes it.
func run(ctx context.Context, c *client.Client) (r result, err error) {
	created, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
		Image:      Image,
		HostConfig: &container.HostConfig{NetworkMode: "none"},
	})
	if err != nil {
		return r, err
	}
	r.id = created.ID
	defer func() {
		_, rerr := c.ContainerRemove(context.WithoutCancel(ctx), r.id, client.ContainerRemoveOptions{Force: true})
		if err == nil {
			err = rerr
		}
	}()
	wait := c.ContainerWait(ctx, r.id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := c.ContainerStart(ctx, r.id, client.ContainerStartOptions{}); err != nil {
		return r, err
	}
	select {
	case end := <-wait.Result:
		r.code = end.StatusCode
	case err := <-wait.Error:
		return r, err
	}
	logs, err := c.ContainerLogs(ctx, r.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return r, err
	}
	defer logs.Close()
	var text strings.Builder
	_, err = stdcopy.StdCopy(&text, &text, logs)
	r.output = text.String()
	return r, err
}

func whoami() string {
	return fmt.Sprintf("user %s (uid %d)", account.Current().Name, os.Getuid())
}
