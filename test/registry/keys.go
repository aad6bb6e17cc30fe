package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	service    = "kelp-test-registry"
	issuerName = "kelp-test-issuer"
)

// selfSigned makes a certificate for loopback and writes it to dir.
func selfSigned(dir string) (caFile string, cert tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", cert, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kelp test registry"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:              []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return "", cert, err
	}
	caFile = filepath.Join(dir, "ca.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return caFile, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(caFile, text, 0o644)
}

// issuer is a token server that knows one account.
type issuer struct {
	signer   jose.Signer
	jwksFile string
}

func newIssuer(dir string) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "test"}},
		(&jose.SignerOptions{}).WithType("JWT"),
	)
	if err != nil {
		return nil, err
	}
	public := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "test", Algorithm: "ES256", Use: "sig"}}}
	b, err := json.Marshal(public)
	if err != nil {
		return nil, err
	}
	i := &issuer{signer: signer, jwksFile: filepath.Join(dir, "jwks.json")}
	return i, os.WriteFile(i.jwksFile, b, 0o600)
}

// ServeHTTP answers a token request as registries' token servers do: a wrong
// password is refused, and no password at all gets a token that may do nothing.
func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, given := r.BasicAuth()
	if r.Method == http.MethodPost { // the OAuth2 form
		user, password = r.PostFormValue("username"), r.PostFormValue("password")
		given = user != ""
	}
	if given && (user != User || password != Password) {
		http.Error(w, `{"details":"incorrect username or password"}`, http.StatusUnauthorized)
		return
	}
	now := time.Now()
	claims := token.ClaimSet{
		Issuer: issuerName, Subject: user, Audience: token.AudienceList{service},
		IssuedAt: now.Unix(), NotBefore: now.Add(-time.Minute).Unix(), Expiration: now.Add(5 * time.Minute).Unix(),
	}
	if given {
		claims.Access = access(r)
	}
	raw, err := jwt.Signed(i.signer).Claims(claims).Serialize()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": raw, "access_token": raw, "expires_in": 300})
}

// access grants every scope that the request names ("repository:app:pull,push").
func access(r *http.Request) []*token.ResourceActions {
	var all []*token.ResourceActions
	for _, scopes := range append(r.URL.Query()["scope"], r.PostForm["scope"]...) {
		for scope := range strings.FieldsSeq(scopes) {
			kind, rest, _ := strings.Cut(scope, ":")
			at := strings.LastIndex(rest, ":")
			if at < 0 {
				continue
			}
			all = append(all, &token.ResourceActions{Type: kind, Name: rest[:at], Actions: strings.Split(rest[at+1:], ",")})
		}
	}
	return all
}
