package config_test

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/rebound-mq/rebound/internal/config"
)

func ExampleLoad() {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.AddServerFlags(flags)
	_ = flags.Parse([]string{"--listen", "127.0.0.1:4333"})

	c, err := config.Load(flags, []string{"HOME=/home/ann", "REBOUND_PASSWORD=hunter2", "REBOUND_USER=ann"}, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range c.Values() {
		if v.Source != "default" {
			fmt.Printf("%s = %s, from %s\n", v.Key, v.Value, v.Source)
		}
	}
	// Output:
	// user = ann, from REBOUND_USER
	// password = [redacted], from REBOUND_PASSWORD
	// listen = 127.0.0.1:4333, from --listen
}
