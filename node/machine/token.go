package machine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/operation"
	"github.com/ployz/ployz/node/store"
)

// tokenNumber is the subnet that joining machines have their first addresses in; no machine gets it.
const tokenNumber = 0xffff

// tokenTTL is the life of a token that does not say, and the longest; briefest is for one that is used at once.
const (
	tokenTTL = 15 * time.Minute
	briefest = 10 * time.Second
)

// Token is an open invitation, at store.Token(TokenHash(Key)). It is the right to one WireGuard peer on one
// machine: who holds the private key reaches that machine's daemon from Address, and nothing else.
type Token struct {
	Operation string     `json:"operation"`
	Key       string     `json:"key"`
	Machine   string     `json:"machine"` // the id of the one that gave it
	Address   netip.Addr `json:"address"`
	Expires   time.Time  `json:"expires"`
	// Admits is the mesh key of the machine that used it; no other may.
	Admits string `json:"admits,omitempty"`
}

// Closes is when the door that it opens is shut at the latest.
func (t Token) Closes() time.Time {
	if t.Admits == "" {
		return t.Expires
	}
	return t.Expires.Add(usedTokenTTL)
}

// lasts is the life of a used token's fact: never shorter than it had before it was used, since a server that lost its power
// after the end of a fact may find the one that was there before again.
func (t Token) lasts(now time.Time) time.Duration { return max(t.Expires.Sub(now), usedTokenTTL) }

// TokenHash names a token by its public key.
func TokenHash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}

// Tokens reads every open invitation.
func Tokens(ctx context.Context, facts Lister) ([]Token, error) {
	list, err := facts.List(ctx, store.Tokens())
	if err != nil {
		return nil, err
	}
	tokens := make([]Token, 0, len(list))
	for _, fact := range list {
		var t Token
		if store.Decode(fact, &t) == nil { // one that cannot be read lets nobody in
			tokens = append(tokens, t)
		}
	}
	return tokens, nil
}

// Invite opens the door of this machine to one that is to join.
type Invite struct {
	kit     Kit
	request api.TokenRequest

	cluster Cluster
	self    Member
	seen    store.Revision
	token   Token
}

// NewInvite invites a machine over the one that the kit belongs to.
func NewInvite(kit Kit, request api.TokenRequest) *Invite {
	if request.TTL == 0 {
		request.TTL = api.Duration(tokenTTL)
	}
	return &Invite{kit: kit, request: request}
}

// Kind implements operation.Operation.
func (i *Invite) Kind() string { return api.KindMachineToken }

// Scope implements operation.Operation.
func (i *Invite) Scope() string { return "token/" + TokenHash(i.request.Key) }

// Inspect implements operation.Operation.
func (i *Invite) Inspect(ctx context.Context, _ operation.Situation) error {
	if err := checkMeshKey("--key", i.request.Key); err != nil {
		return err
	}
	if ttl := time.Duration(i.request.TTL); ttl < briefest || ttl > tokenTTL {
		return api.Errorf(api.CodeBadRequest, "a token lives between %s and %s, not %s", briefest, tokenTTL, ttl).About("--ttl")
	}
	members, err := i.kit.read(ctx, &i.cluster)
	if err != nil {
		return err
	}
	if i.self, err = Named(members, i.kit.Machine); err != nil {
		return err
	}
	fact, err := i.kit.Facts.Get(ctx, store.Token(TokenHash(i.request.Key)))
	if err != nil && !store.IsNotFound(err) {
		return err
	}
	i.seen = fact.Revision
	i.token = Token{
		Key: i.request.Key, Machine: i.self.ID, Address: tokenAddress(i.cluster.Prefix),
		Expires: i.kit.Now().Add(time.Duration(i.request.TTL)).UTC().Truncate(time.Second),
	}
	return nil
}

// Plan implements operation.Operation.
func (i *Invite) Plan() operation.Plan {
	return operation.Plan{
		Changes: []api.Change{{Action: "create", Subject: "token " + TokenHash(i.request.Key), Machine: i.self.Name, To: time.Duration(i.request.TTL).String()}},
		Commit: operation.Commit{
			Witness: store.Token(TokenHash(i.request.Key)), Expect: i.seen, Content: i.request,
			Batch: func(op string) ([]store.Put, error) {
				t := i.token
				t.Operation = op
				p, err := put(store.Token(TokenHash(t.Key)), t, i.seen)
				p.TTL = time.Duration(i.request.TTL)
				return []store.Put{p}, err
			},
		},
		Cleanup:  []operation.Step{i.kit.follow(i.self, store.Token(TokenHash(i.request.Key)))},
		Resolves: true,
	}
}

// Result implements operation.Resulter.
func (i *Invite) Result() any {
	return api.TokenResult{
		Cluster: i.cluster.ID, ClusterName: i.cluster.Name, Machine: i.self.Name, MeshKey: i.self.MeshKey,
		Endpoints: i.self.Endpoints, Overlay: i.self.Overlay, Address: i.token.Address, Expires: i.token.Expires,
	}
}

// tokenAddress is a random address in the subnet of those who are about to join.
func tokenAddress(prefix netip.Prefix) netip.Addr {
	a := subnet6(prefix, tokenNumber).Addr().As16()
	rand.Read(a[8:]) // never fails
	return netip.AddrFrom16(a)
}

// checkMeshKey refuses what is not a WireGuard public key.
func checkMeshKey(where, key string) error {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != 32 {
		return api.Errorf(api.CodeBadRequest, "%q is not a WireGuard public key", key).About(where)
	}
	return nil
}

// tokenWord begins every token, with the version of its form.
const tokenWord = "ployz1-"

// encodeToken adds a sum of eight digits: what was cut short or mistyped is told before anything is asked.
func encodeToken(content []byte) string {
	body := base64.RawURLEncoding.EncodeToString(content)
	sum := sha256.Sum256([]byte(body))
	return tokenWord + body + "-" + hex.EncodeToString(sum[:4])
}

// DecodeToken reads what `ployzctl machine token` printed. Errors: token.invalid.
func DecodeToken(text string) (TokenText, error) {
	var t TokenText
	body, found := strings.CutPrefix(strings.TrimSpace(text), tokenWord)
	at := strings.LastIndexByte(body, '-')
	if !found || at < 0 {
		return t, badToken("it does not have a token's form")
	}
	content, err := base64.RawURLEncoding.DecodeString(body[:at])
	if err != nil || encodeToken(content) != tokenWord+body {
		return t, badToken("it was cut short or changed on its way")
	}
	if err := json.Unmarshal(content, &t); err != nil || checkMeshKey("", t.MeshKey) != nil || checkMeshKey("", t.Private) != nil || !t.Address.IsValid() {
		return t, badToken("it lacks a part")
	}
	return t, nil
}

// Late refuses a token whose time is over by this machine's clock, or nearly so: the one that gave it has shut its door
// by then, and would not answer.
func (t TokenText) Late(now time.Time) error {
	if t.Expires.IsZero() || now.Before(t.Expires.Add(ClockBound)) {
		return nil
	}
	return api.Errorf(api.CodeTokenUsed, "it ran out at %s, and it is %s by this machine's clock", t.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339)).
		About("the token").WithHint("make a new one on a member: ployzctl machine token; or, if the clock is wrong: timedatectl set-ntp true")
}

func badToken(why string) error {
	return api.Errorf(api.CodeTokenInvalid, "%s", why).About("the token").WithHint("make a new one on a member: ployzctl machine token")
}
