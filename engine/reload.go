package engine

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/moby/moby/api/types/events"
)

// publishReload tells that the configuration was read again, as dockerd does
// upon SIGHUP, with those of its attributes that there are settings for here.
func (e *Engine) publishReload(ctx context.Context) error {
	info, err := e.System.Info(ctx)
	if err != nil {
		return err
	}
	insecure := []string{}
	for _, net := range e.cfg.Insecure.Nets {
		insecure = append(insecure, net.String())
	}
	insecure = append(insecure, e.cfg.Insecure.Hosts...)
	registries, err := json.Marshal(insecure)
	if err != nil {
		return err
	}
	e.Events.Publish(events.DaemonEventType, events.ActionReload, info.ID, map[string]string{
		"name":                info.Name,
		"debug":               strconv.FormatBool(info.Debug),
		"insecure-registries": string(registries),
		"live-restore":        strconv.FormatBool(info.LiveRestoreEnabled),
	})
	return nil
}
