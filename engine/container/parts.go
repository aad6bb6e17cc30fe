package container

import (
	"context"
	"fmt"
	"time"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// free gives back what a running container holds. Each step may have been
// done before.
func (o *Options) free(ctx context.Context, r *Record) {
	logFailure(r, "detach the networks", o.Networks.Detach(ctx, r.ID))
	logFailure(r, "unmount the volumes", o.Volumes.Unmount(ctx, r.ID, r.Mounts))
	logFailure(r, "unmount the file system", o.RootFS.UnmountRootFS(r.ID))
}

// discard removes all that a container consists of but its record.
func (o *Options) discard(ctx context.Context, r *Record, volumes bool) error {
	if err := o.Tasks.Forget(ctx, keeper.Ref{Container: r.ID}); err != nil && !isNotFound(err) {
		return err
	}
	if err := o.Networks.Remove(ctx, r.ID); err != nil {
		return err
	}
	if err := o.Images.RemoveRootFS(r.ID); err != nil {
		return err
	}
	crashpoint.Hit("container.remove.removed-rootfs")
	return o.Volumes.Release(ctx, r.ID, r.Mounts, volumes)
}

// killNow ends a process that must not stay, and waits for it.
func (o *Options) killNow(ctx context.Context, r *Record) {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := o.Processes.Signal(ctx, keeper.Ref{Container: r.ID}, sigKill, true); err != nil && !isNotFound(err) && !isConflict(err) {
		logFailure(r, "kill the processes", err)
		return
	}
	for {
		task, err := o.task(ctx, r.ID)
		if err == nil && (task == nil || task.Status == keeper.Exited) {
			break
		}
		select {
		case <-ctx.Done():
			logFailure(r, "wait for the end", fmt.Errorf("it does not come: %w", ctx.Err()))
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = o.Tasks.Forget(ctx, keeper.Ref{Container: r.ID})
}

// task asks the keeper for the container's process; nil is none.
func (o *Options) task(ctx context.Context, id string) (*keeper.Task, error) {
	tasks, err := o.Tasks.Tasks(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if t.Container == id && t.Exec == "" {
			return &t, nil
		}
	}
	return nil, nil
}
