// Command testcontainers uses kelp as a test suite with testcontainers-go
// does, and leaves to the reaper what it made.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("all is well")
}

func run(ctx context.Context) error {
	net, err := network.New(ctx)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	web, err := testcontainers.Run(
		ctx, "busybox",
		testcontainers.WithCmd("sh", "-c", "echo ready; exec httpd -f -p 8080 -h /srv"),
		testcontainers.WithExposedPorts("8080/tcp"),
		testcontainers.WithEnv(map[string]string{"REEF": "north"}),
		testcontainers.WithTmpfs(map[string]string{"/scratch": "rw"}),
		testcontainers.WithFiles(testcontainers.ContainerFile{Reader: strings.NewReader("pong\n"), ContainerFilePath: "/srv/index.html", FileMode: 0o644}),
		testcontainers.WithMounts(testcontainers.VolumeMount("reef", "/data")),
		testcontainers.WithHostConfigModifier(func(c *container.HostConfig) { c.CapDrop = []string{"NET_RAW"} }),
		testcontainers.WithWaitStrategy(wait.ForLog("ready"), wait.ForListeningPort("8080/tcp"), wait.ForHTTP("/").WithPort("8080/tcp"), wait.ForExec([]string{"true"})),
		network.WithNetwork([]string{"web"}, net),
	)
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	if err := serves(ctx, web); err != nil {
		return err
	}
	cli, err := testcontainers.Run(ctx, "busybox", testcontainers.WithCmd("sleep", "1000"), network.WithNetwork(nil, net))
	if err != nil {
		return fmt.Errorf("cli: %w", err)
	}
	if err := says(ctx, cli, "pong\n", "wget", "-qO-", "http://web:8080/"); err != nil {
		return err
	}
	if err := cli.CopyToContainer(ctx, []byte("over\n"), "/tmp/there", 0o600); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := says(ctx, cli, "600 over\n", "sh", "-c", "echo $(stat -c %a /tmp/there) $(cat /tmp/there)"); err != nil {
		return err
	}
	now := time.Duration(0)
	if err := cli.Stop(ctx, &now); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err := cli.Start(ctx); err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	return cli.Terminate(ctx, testcontainers.StopTimeout(0))
}

// serves asks web for its page over its published port and looks at what the
// library says of it.
func serves(ctx context.Context, web testcontainers.Container) error {
	url, err := web.PortEndpoint(ctx, "8080/tcp", "http")
	if err != nil {
		return fmt.Errorf("port: %w", err)
	}
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "pong\n" {
		return fmt.Errorf("web answered %q, %v", body, err)
	}
	if s, err := web.State(ctx); err != nil || !s.Running {
		return fmt.Errorf("web's state is %+v, %v", s, err)
	}
	if ip, err := web.ContainerIP(ctx); err != nil || ip == "" {
		return fmt.Errorf("web's address is %q, %v", ip, err)
	}
	return says(ctx, web, "north\n", "sh", "-c", "echo $REEF")
}

// says runs a command in a container and compares what it prints.
func says(ctx context.Context, c testcontainers.Container, want string, cmd ...string) error {
	code, out, err := c.Exec(ctx, cmd, exec.Multiplexed())
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	got, err := io.ReadAll(out)
	if err != nil || code != 0 || string(got) != want {
		return fmt.Errorf("%v: exit code %d, output %q, %v", cmd, code, got, err)
	}
	return nil
}
