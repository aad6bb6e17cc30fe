// Command ryuk removes what tests have left behind, as the image
// testcontainers/ryuk does, whose protocol it speaks: a client connects to
// port 8080 and sends lines of filters, "label=a=b&label=c=d", each answered
// with ACK; when no client has been connected for a while, what the filters
// select is removed.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
)

// first is how long the first client may take, again how long one may be away.
const first = time.Minute

func main() {
	again := 10 * time.Second
	if d, err := time.ParseDuration(os.Getenv("RYUK_RECONNECTION_TIMEOUT")); err == nil {
		again = d
	}
	if err := run(context.Background(), again); err != nil {
		log.Fatal(err)
	}
}

// reaper knows what to remove and how many clients are connected.
type reaper struct {
	mu      sync.Mutex
	filters map[string]client.Filters

	changes chan int // by how many the clients have become more
}

func run(ctx context.Context, again time.Duration) error {
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	if _, err := docker.Ping(ctx, client.PingOptions{}); err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	log.Println("Started") // both wait for this word
	r := &reaper{filters: map[string]client.Filters{}, changes: make(chan int)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.changes <- 1
			go r.serve(conn)
		}
	}()
	for clients, wait := 0, time.After(first); ; {
		select {
		case n := <-r.changes:
			if clients += n; clients == 0 {
				wait = time.After(again)
			} else {
				wait = nil
			}
		case <-wait:
			return r.reap(ctx, docker)
		}
	}
}

func (r *reaper) serve(conn net.Conn) {
	defer func() { r.changes <- -1 }()
	defer conn.Close()
	for s := bufio.NewScanner(conn); s.Scan(); {
		query, err := url.ParseQuery(s.Text())
		if err != nil {
			log.Printf("cannot read %q: %v", s.Text(), err)
			continue
		}
		f := client.Filters{}
		for name, values := range query {
			f = f.Add(name, values...)
		}
		r.mu.Lock()
		r.filters[s.Text()] = f
		r.mu.Unlock()
		fmt.Fprintln(conn, "ACK")
	}
}

// reap removes all that any filter selects, but not the reaper's own container.
func (r *reaper) reap(ctx context.Context, docker *client.Client) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	self, err := os.Hostname() // the start of the container's id
	if err != nil {
		return err
	}
	for _, f := range r.filters {
		containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: f})
		if err != nil {
			return err
		}
		for _, c := range containers.Items {
			if strings.HasPrefix(c.ID, self) {
				continue
			}
			if _, err := docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true}); err != nil {
				log.Print(err)
			}
		}
		for name, prune := range map[string]func() error{
			"networks": func() error {
				_, err := docker.NetworkPrune(ctx, client.NetworkPruneOptions{Filters: f.Clone()})
				return err
			},
			"volumes": func() error {
				_, err := docker.VolumePrune(ctx, client.VolumePruneOptions{All: true, Filters: f.Clone()}) // which it adds to
				return err
			},
			"images": func() error {
				_, err := docker.ImagePrune(ctx, client.ImagePruneOptions{Filters: f.Clone().Add("dangling", "false")})
				return err
			},
		} {
			if err := prune(); err != nil {
				log.Printf("cannot remove %s: %v", name, err)
			}
		}
	}
	return nil
}
