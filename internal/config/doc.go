// Package config is the configuration of the service and of the client
// commands. [Config] holds the values in force. [Load] takes each of them from,
// in rising weight, its default, the configuration file, the environment and
// the flags, and remembers its source. Every setting is defined once, in
// settings.go.
package config
