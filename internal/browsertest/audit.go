package browsertest

import (
	_ "embed" // for the script
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/everflag/everflag/internal/testenv"
)

//go:embed audit.js
var auditScript string

// windows are those that a page is audited in: both widths in both schemes.
var windows = map[string]Window{
	"desktop-light": Desktop,
	"desktop-dark":  {Width: Desktop.Width, Height: Desktop.Height, Dark: true},
	"phone-light":   Phone,
	"phone-dark":    {Width: Phone.Width, Height: Phone.Height, Dark: true},
}

// Audit fails the test for what somebody would stumble over on the page that is shown, in any window: text of low contrast (WCAG AA), parts that are cut off or
// make the page scroll sideways, what takes the focus without showing it or has no label, too many bytes, and whatever [Browser.Check] finds.
// If screenshots are wanted, they are of the whole page and begin with the name.
func (b *Browser) Audit(t *testing.T, name string) {
	t.Helper()
	for window, w := range windows {
		b.resize(t, w)
		if flaws := b.flaws(t); len(flaws) > 0 {
			t.Errorf("%s, %s:\n%s", name, window, strings.Join(flaws, "\n"))
		}
		w.Height = max(w.Height, int64(Eval[float64](t, b, "document.scrollingElement.scrollHeight")))
		b.resize(t, w)
		b.Screenshot(t, fmt.Sprintf("%s-%s.png", name, window))
	}
	b.Check(t)
}

func (b *Browser) flaws(t *testing.T) []string {
	t.Helper()
	// The focus is to show as it does for a keyboard.
	testenv.Eventually(t, stepTimeout, func() error {
		b.Press(t, kb.Tab)
		if !Eval[bool](t, b, "document.activeElement.matches(':focus-visible')") {
			return errors.New("the keyboard gives the focus to nothing")
		}
		return nil
	})
	return Eval[[]string](t, b, auditScript)
}
