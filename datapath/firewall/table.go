package firewall

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const tableName = "ployz"

// Error is a question or a change that nftables refused.
type Error struct {
	// Op is what was tried, in words.
	Op string
	// Err is what the kernel said.
	Err error
}

// Error returns the attempt and the kernel's answer.
func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns what the kernel said.
func (e *Error) Unwrap() error { return e.Err }

// Ensure makes the kernel's table the wanted one, in one atomic batch, and returns the lines
// that changed ("- " went, "+ " came). Where nothing differs, nothing is sent, and counters
// and flows stay as they are. Errors: *InvalidError, *PublishedTwiceError, *Error.
func Ensure(c Config) ([]string, error) {
	changed, err := Inspect(c)
	if err != nil || len(changed) == 0 {
		return nil, err
	}
	conn, err := connect()
	if err != nil {
		return nil, err
	}
	replace(conn, chains(c))
	if err := conn.Flush(); err != nil {
		return nil, &Error{"replace the nftables table inet " + tableName, err}
	}
	return changed, nil
}

// Inspect returns the lines by which the kernel's table differs from the wanted one ("- "
// too much, "+ " missing); none where it is as wanted. Errors as of Ensure.
func Inspect(c Config) ([]string, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	found, err := Found()
	if err != nil {
		return nil, err
	}
	return difference(found, Render(c)), nil
}

// Remove deletes the table. One that is not there is no error.
func Remove() error {
	conn, err := connect()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return &Error{"delete the nftables table inet " + tableName, err}
	}
	return nil
}

// socketBytes is room for a batch of some thousand published ports and its answers.
const socketBytes = 8 << 20

func connect() (*nftables.Conn, error) {
	room := nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(socketBytes), c.SetReadBuffer(socketBytes))
	})
	conn, err := nftables.New(room)
	if err != nil {
		return nil, &Error{"open an nftables socket", err}
	}
	return conn, nil
}

// replace adds the table before it deletes it, since deleting one that is not there fails the batch.
func replace(conn *nftables.Conn, list []chain) {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	made := map[string]*nftables.Chain{}
	for _, ch := range list {
		c := &nftables.Chain{Name: ch.name, Table: table}
		if ch.hook != nil {
			c.Type, c.Hooknum, c.Priority = ch.kind, ch.hook, &ch.priority
		}
		made[ch.name] = conn.AddChain(c)
	}
	for _, ch := range list {
		for _, r := range ch.rules {
			added := &nftables.Rule{Table: table, Chain: made[ch.name], Exprs: r.exprs}
			if r.comment != "" {
				added.UserData = userdata.AppendString(nil, userdata.TypeComment, r.comment)
			}
			conn.AddRule(added)
		}
	}
}

// Found returns the kernel's table as text, "" where there is none.
func Found() (string, error) {
	conn, err := connect()
	if err != nil {
		return "", err
	}
	table, err := conn.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if errors.Is(err, unix.ENOENT) || (err == nil && table == nil) {
		return "", nil
	}
	if err != nil {
		return "", &Error{"look for the nftables table inet " + tableName, err}
	}
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", &Error{"list nftables chains", err}
	}
	var list []chain
	for _, c := range all {
		if c.Table.Name != tableName {
			continue
		}
		ch, err := foundChain(conn, table, c)
		if err != nil {
			return "", err
		}
		list = append(list, ch)
	}
	return draw(list), nil
}

func foundChain(conn *nftables.Conn, table *nftables.Table, c *nftables.Chain) (chain, error) {
	ch := chain{name: c.Name, kind: c.Type, hook: c.Hooknum}
	if c.Priority != nil {
		ch.priority = *c.Priority
	}
	rules, err := conn.GetRules(table, c)
	if err != nil {
		return ch, &Error{"list the rules of chain " + c.Name, err}
	}
	for _, r := range rules {
		comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		ch.rules = append(ch.rules, rule{r.Exprs, comment})
	}
	if c.Policy != nil && *c.Policy != nftables.ChainPolicyAccept {
		ch.name += fmt.Sprintf(" policy %d", *c.Policy)
	}
	return ch, nil
}

// difference compares line by line. Lines that only moved are still a difference.
func difference(found, wanted string) []string {
	if found == wanted {
		return nil
	}
	have, want := lines(found), lines(wanted)
	var out []string
	for _, l := range have {
		if !slices.Contains(want, l) {
			out = append(out, "- "+strings.TrimSpace(l))
		}
	}
	for _, l := range want {
		if !slices.Contains(have, l) {
			out = append(out, "+ "+strings.TrimSpace(l))
		}
	}
	if len(out) == 0 {
		return []string{"~ the order of the rules"}
	}
	return out
}

func lines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }
