// Package config is the configuration of the service and of the client
// commands. [Config] holds the values in force; [Load] finds each of them, in
// rising weight, in its default, the configuration file, the environment and
// the flags, and remembers where it came from. Every setting is defined once,
// in settings.go.
package config
