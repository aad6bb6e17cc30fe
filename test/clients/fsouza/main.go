// Command fsouza uses kelp through fsouza/go-dockerclient, which speaks the
// API without a version in its paths.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"log"
	"net/http"
	"slices"
	"strings"
	"time"

	docker "github.com/fsouza/go-dockerclient"
)

func main() {
	c, err := docker.NewClientFromEnv()
	if err == nil {
		err = run(c)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("all is well")
}

func run(c *docker.Client) error {
	if err := c.Ping(); err != nil {
		return err
	}
	events := make(chan *docker.APIEvents, 100)
	// The library listens a while later: it is to miss nothing.
	since := docker.EventsOptions{Since: fmt.Sprint(time.Now().Unix()), Filters: map[string][]string{"type": {"container"}}}
	if err := c.AddEventListenerWithOptions(since, events); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	im, err := c.InspectImage("busybox")
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	net, err := c.CreateNetwork(docker.CreateNetworkOptions{Name: "reef", Driver: "bridge"})
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	web, err := c.CreateContainer(docker.CreateContainerOptions{
		Name:       "web",
		Config:     &docker.Config{Image: im.ID, Cmd: []string{"sh", "-c", "echo started; exec httpd -f -p 80 -h /data"}, Labels: map[string]string{"reef": "yes"}},
		HostConfig: &docker.HostConfig{NetworkMode: "reef", Binds: []string{"reef:/data"}, PortBindings: map[docker.Port][]docker.PortBinding{"80/tcp": {{HostIP: "127.0.0.1"}}}, Init: true},
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := c.StartContainer(web.ID, nil); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, step := range []func(*docker.Client, string) error{files, commands, looks} {
		if err := step(c, web.ID); err != nil {
			return err
		}
	}
	if err := c.StopContainer(web.ID, 60); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if code, err := c.WaitContainer(web.ID); err != nil || code != 143 && code != 0 {
		return fmt.Errorf("wait: %d, %w", code, err)
	}
	if err := c.RemoveContainer(docker.RemoveContainerOptions{ID: web.ID, RemoveVolumes: true}); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	if _, err := c.InspectContainerWithOptions(docker.InspectContainerOptions{ID: web.ID}); fmt.Sprintf("%T", err) != "*docker.NoSuchContainer" {
		return fmt.Errorf("inspect of what is gone: %w", err)
	}
	if err := c.RemoveNetwork(net.ID); err != nil {
		return err
	}
	if err := c.RemoveVolumeWithOptions(docker.RemoveVolumeOptions{Name: "reef"}); err != nil {
		return err
	}
	return saw(events, "create", "start", "exec_create: cat /data/index.html -", "die", "destroy")
}

// files copies a file into the container and out again.
func files(c *docker.Client, id string) error {
	var in, out bytes.Buffer
	w := tar.NewWriter(&in)
	_ = w.WriteHeader(&tar.Header{Name: "index.html", Mode: 0o644, Size: 5})
	_, _ = w.Write([]byte("pong\n"))
	w.Close()
	if err := c.UploadToContainer(id, docker.UploadToContainerOptions{InputStream: &in, Path: "/data"}); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	if err := c.DownloadFromContainer(id, docker.DownloadFromContainerOptions{OutputStream: &out, Path: "/data/index.html"}); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	r := tar.NewReader(&out)
	if h, err := r.Next(); err != nil || h.Name != "index.html" || h.Size != 5 {
		return fmt.Errorf("downloaded %+v, %w", h, err)
	}
	return nil
}

// commands runs one in the container, with its streams attached.
func commands(c *docker.Client, id string) error {
	exec, err := c.CreateExec(docker.CreateExecOptions{Container: id, Cmd: []string{"cat", "/data/index.html", "-"}, AttachStdin: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return fmt.Errorf("exec create: %w", err)
	}
	var out, stderr bytes.Buffer
	err = c.StartExec(exec.ID, docker.StartExecOptions{InputStream: strings.NewReader("typed\n"), OutputStream: &out, ErrorStream: &stderr})
	if err != nil || out.String() != "pong\ntyped\n" {
		return fmt.Errorf("exec printed %q and %q: %w", &out, &stderr, err)
	}
	if i, err := c.InspectExec(exec.ID); err != nil || i.ExitCode != 0 || i.Running {
		return fmt.Errorf("exec ended as %+v: %w", i, err)
	}
	return nil
}

// looks reads what the API says of the container.
func looks(c *docker.Client, id string) error {
	all, err := c.ListContainers(docker.ListContainersOptions{Filters: map[string][]string{"label": {"reef=yes"}}})
	if err != nil || len(all) != 1 || all[0].Names[0] != "/web" || len(all[0].Ports) != 1 {
		return fmt.Errorf("list: %+v, %w", all, err)
	}
	i, err := c.InspectContainerWithOptions(docker.InspectContainerOptions{ID: id, Size: true})
	if err != nil || !i.State.Running || i.NetworkSettings.Networks["reef"].IPAddress == "" || i.Mounts[0].Name != "reef" {
		return fmt.Errorf("inspect: %+v, %w", i, err)
	}
	var out bytes.Buffer
	for out.Len() == 0 { // until the container has said it
		if err := c.Logs(docker.LogsOptions{Container: id, OutputStream: &out, Stdout: true}); err != nil {
			return fmt.Errorf("logs: %w", err)
		}
	}
	if out.String() != "started\n" {
		return fmt.Errorf("logs: %q", &out)
	}
	if err := fetch("http://127.0.0.1:" + i.NetworkSettings.Ports["80/tcp"][0].HostPort + "/"); err != nil {
		return err
	}
	if top, err := c.TopContainer(id, ""); err != nil || len(top.Processes) == 0 {
		return fmt.Errorf("top: %+v, %w", top, err)
	}
	stats := make(chan *docker.Stats, 1)
	if err := c.Stats(docker.StatsOptions{ID: id, Stats: stats}); err != nil {
		return fmt.Errorf("stats: %w", err)
	}
	if s := <-stats; s.Networks["eth0"].RxBytes == 0 {
		return fmt.Errorf("stats: %+v", s)
	}
	return nil
}

// fetch gets a page from a server that may only just have started.
func fetch(url string) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			return resp.Body.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

// saw waits for events of these actions, in any order: the library loses it.
func saw(events <-chan *docker.APIEvents, actions ...string) error {
	for deadline := time.After(time.Minute); len(actions) > 0; {
		select {
		case e := <-events:
			actions = slices.DeleteFunc(actions, func(a string) bool { return e.Type == "container" && e.Action == a })
		case <-deadline:
			return fmt.Errorf("no events %q", actions)
		}
	}
	return nil
}
