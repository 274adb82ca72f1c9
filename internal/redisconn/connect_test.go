package redisconn

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestOpen_URLNamesASingleNodeSentinelOrACluster(t *testing.T) {
	for _, c := range []struct {
		url, master, user string
		addrs             []string
		db                int
		tls               bool
	}{
		{url: "redis://h", addrs: []string{"h:6379"}},
		{url: "rediss://ann:s%40cret@h:1/3?read_timeout=2s", addrs: []string{"h:1"}, user: "ann", db: 3, tls: true},
		{url: "redis://a:1?master_name=m&addr=b:2", addrs: []string{"a:1", "b:2"}, master: "m"},
		{url: "redis://a:1?addr=b:2&addr=c:3", addrs: []string{"a:1", "b:2", "c:3"}},
	} {
		o, err := parse(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if !slices.Equal(o.Addrs, c.addrs) || o.MasterName != c.master || o.Username != c.user || o.DB != c.db || (o.TLSConfig != nil) != c.tls {
			t.Errorf("%s gives %v, master %q, user %q, database %d, TLS %t", c.url, o.Addrs, o.MasterName, o.Username, o.DB, o.TLSConfig != nil)
		}
		client, err := Open(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		_, cluster := client.(*redis.ClusterClient)
		if want := len(c.addrs) > 1 && c.master == ""; cluster != want {
			t.Errorf("%s makes a client of a cluster: %t, want %t", c.url, cluster, want)
		}
		if err := client.Close(); err != nil {
			t.Errorf("%s: closing: %v", c.url, err)
		}
	}
}

func TestOpen_ErrorHasNoPassword(t *testing.T) {
	for _, url := range []string{
		"redis://ann:topsecret@h:1/x", "redis://ann:topsecret%zz@h:1", "http://ann:topsecret@h:1", "redis://ann:topsecret@h:1?addr=nowhere",
		"redis://ann:topsecret@h:1?nonsense=1", "redis://ann:topsecret@h:port",
	} {
		_, err := Open(url)
		if err == nil || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s gives the error %v, want one without the password", url, err)
		}
	}
}

func TestVersion_IsThatOfTheServer(t *testing.T) {
	server := testkit.Redis(t)
	client, err := Open(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if v, err := Version(ctx, client); err != nil || !strings.Contains(v, ".") {
		t.Errorf("the version is %q, %v", v, err)
	}
	server.Stop()
	if _, err := Version(ctx, client); err == nil {
		t.Error("a stopped server returned a version")
	}
}
