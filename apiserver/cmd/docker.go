package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/apiserver/cmd/docker"
	"github.com/kelp-engine/kelp/engine"
)

// dockerName is the name of a link to kelp that is the docker client.
const dockerName = "docker"

var dockerCommand = &cli.Command{
	Name:            dockerName,
	Usage:           "the docker client, starting the engine if needed",
	ArgsUsage:       "ARGUMENTS...",
	Description:     "The same as a link named docker to kelp. DOCKER_HOST, DOCKER_CONTEXT and the client's\nown configuration lead it elsewhere, as they do every docker client.",
	SkipFlagParsing: true,
	HideHelp:        true, // 'kelp docker help' is the client's
	Action: func(c *cli.Context) error {
		// The settings matter only when kelp is the server: whether, the
		// client finds out.
		s, sErr := readSettings(c)
		program, err := dockerLink(s.RuntimeDir)
		if err != nil {
			return err
		}
		code := docker.Main(docker.Options{
			Args:    c.Args().Slice(),
			Program: program,
			Socket:  s.Socket,
			Version: engine.Version(),
			Start: func(ctx context.Context) (string, error) {
				if sErr != nil {
					return "", sErr
				}
				return ensureStarted(ctx, s)
			},
		})
		if code != 0 {
			return exitCode(code)
		}
		return nil
	},
}

// dockerLink returns the path of a link named docker to this program, by
// which plugins of the docker client execute it.
func dockerLink(runtimeDir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if filepath.Base(os.Args[0]) == dockerName || runtimeDir == "" {
		return os.Args[0], nil
	}
	dir := filepath.Join(runtimeDir, "bin")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("cannot make a link for the docker client: %w", err)
	}
	link := filepath.Join(dir, dockerName)
	if now, err := os.Readlink(link); err == nil && now == self {
		return link, nil
	}
	next := fmt.Sprintf("%s.%d", link, os.Getpid())
	if err := os.Symlink(self, next); err != nil {
		return "", fmt.Errorf("cannot make a link for the docker client: %w", err)
	}
	return link, os.Rename(next, link)
}
