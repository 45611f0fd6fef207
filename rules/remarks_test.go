package rules

import (
	"testing"
	"testing/fstest"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// TestRemarksAreMadeAtTheirPlace loads the folders in testdata/remarks: each an
// archive of a good ruleset and of what is worth a second look in it.
func TestRemarksAreMadeAtTheirPlace(t *testing.T) {
	at, _ := payment.ParseTime("2026-11-24T00:00:00Z")
	eachArchive(t, "remarks", 5, func(t *testing.T, folder fstest.MapFS) string {
		set, err := LoadFS(folder)
		if err != nil {
			t.Fatal(err)
		}
		return set.Remarks(at).Error() + "\n"
	})
}
