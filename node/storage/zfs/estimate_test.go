package zfs

import "testing"

// TestEstimated reads what OpenZFS 2 prints of a stream, and of one that goes on with one that broke.
func TestEstimated(t *testing.T) {
	for name, c := range map[string]struct {
		out, guid string
		size      int64
	}{
		"in full": {"full\ttank/ployz/volumes/shop.data@s1\t4245544\nsize\t4245544\n", "", 4245544},
		"resumed": {
			"resume token contents:\nnvlist version: 0\n\tobject = 0x2\n\toffset = 0x20000\n\tbytes = 0x21a30\n\ttoguid = 0xfedcba9876543210\n" +
				"\ttoname = tank/ployz/volumes/shop.data@s1\n\tcompressok = 0x1\nfull\ttank/ployz/volumes/shop.data@s1\t100\nsize\t100\n",
			"18364758544493064720", 100,
		},
		"nothing of use": {"size\tmuch\ntoguid = some\n", "", -1},
	} {
		if size, guid := estimated(c.out); size != c.size || guid != c.guid {
			t.Errorf("%s: %d bytes, %q", name, size, guid)
		}
	}
}
