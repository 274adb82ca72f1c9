package natsconn_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/rebound-mq/rebound/internal/testkit"
)

// runServer runs a plain server, without JetStream unless the options say so,
// and returns its URL.
func runServer(t *testing.T, o *natsd.Options) string {
	t.Helper()
	return "nats://" + testkit.PlainServer(t, o).Addr().String()
}

func passwordServer(t *testing.T) string {
	t.Helper()
	return runServer(t, &natsd.Options{Username: "ann", Password: "s3cret"})
}

func tokenServer(t *testing.T) string {
	t.Helper()
	return runServer(t, &natsd.Options{Authorization: "s3cret"})
}

func tlsServer(t *testing.T, pki pkiFiles) string {
	t.Helper()
	config, err := natsd.GenTLSConfig(&natsd.TLSConfigOpts{
		CertFile: pki.cert, KeyFile: pki.key, CaFile: pki.ca, Verify: true, Timeout: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	config.MinVersion = tls.VersionTLS12
	return runServer(t, &natsd.Options{TLSConfig: config, TLSTimeout: 5, TLSVerify: true})
}

// identity is a user with a seed and credentials, as files.
type identity struct {
	operator, account    nkeys.KeyPair
	public               string
	seed, jwt            string
	seedFile, credsFile  string
	accountPublic, opPub string
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	operator := must(nkeys.CreateOperator())(t)
	account := must(nkeys.CreateAccount())(t)
	user := must(nkeys.CreateUser())(t)
	id := identity{
		operator: operator, account: account,
		opPub:         must(operator.PublicKey())(t),
		accountPublic: must(account.PublicKey())(t),
		public:        must(user.PublicKey())(t),
		seed:          string(must(user.Seed())(t)),
	}
	id.jwt = must(jwt.NewUserClaims(id.public).Encode(account))(t)
	creds := must(jwt.FormatUserConfig(id.jwt, []byte(id.seed)))(t)
	id.seedFile = writeFile(t, "user.nk", []byte(id.seed))
	id.credsFile = writeFile(t, "user.creds", creds)
	return id
}

func (id identity) nkeyServer(t *testing.T) string {
	t.Helper()
	return runServer(t, &natsd.Options{Nkeys: []*natsd.NkeyUser{{Nkey: id.public}}})
}

func (id identity) jwtServer(t *testing.T) string {
	t.Helper()
	operator := jwt.NewOperatorClaims(id.opPub)
	operatorJWT := must(operator.Encode(id.operator))(t)
	accountJWT := must(jwt.NewAccountClaims(id.accountPublic).Encode(id.operator))(t)
	resolver := &natsd.MemAccResolver{}
	if err := resolver.Store(id.accountPublic, accountJWT); err != nil {
		t.Fatal(err)
	}
	return runServer(t, &natsd.Options{
		TrustedOperators: []*jwt.OperatorClaims{must(jwt.DecodeOperatorClaims(operatorJWT))(t)},
		AccountResolver:  resolver,
	})
}

// pkiFiles are the paths of PEM files: an authority, and a certificate with its
// key that serves for server and client.
type pkiFiles struct{ ca, cert, key string }

func certificates(t *testing.T) pkiFiles {
	t.Helper()
	caKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER := must(x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey))(t)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leafDER := must(x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey))(t)
	encode := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	return pkiFiles{
		ca:   writeFile(t, "ca.pem", encode("CERTIFICATE", caDER)),
		cert: writeFile(t, "cert.pem", encode("CERTIFICATE", leafDER)),
		key:  writeFile(t, "key.pem", encode("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))(t))),
	}
}

func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// must returns the value, or fails the test that it is given.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
