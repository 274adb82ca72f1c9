package main

import (
	"encoding/json"
	"log/slog"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// The key of all actions.
const (
	service   = "campaign_orchestrator"
	operation = "execute_action"
)

// startOrchestrator starts the NATS micro service that executes actions.
func startOrchestrator(nc *nats.Conn) (micro.Service, error) {
	return micro.AddService(nc, micro.Config{
		Name: service, Version: "1.0.0", Description: "Executes the actions of campaigns",
		Endpoint: &micro.EndpointConfig{Subject: service + "." + operation, Handler: micro.HandlerFunc(execute)},
	})
}

// execute executes an action. Every third one fails once because the service is busy.
func execute(r micro.Request) {
	var action struct {
		Action  int    `json:"action"`
		Account string `json:"account"`
	}
	err := json.Unmarshal(r.Data(), &action)
	switch {
	case err != nil:
		err = r.Error("400", "the action cannot be read", nil)
	case strings.HasPrefix(action.Account, "suspended"):
		err = r.Error("403", "the account is suspended", nil)
	case action.Action%3 == 0 && r.Headers().Get("Retry-Attempt") == "2":
		err = r.Error("503", "busy", nil)
	default:
		err = r.Respond(nil)
	}
	if err != nil {
		slog.Error("an action could not be answered", "error", err)
	}
}
