package logstore_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/api/internal/logstore"
)

// opener makes an empty log that answers.
type opener func(t testing.TB) logstore.Store

// suite is what both stores are held to.
var suite = map[string]func(t *testing.T, open opener){
	"AnEventIsFoundByWhatItWasPublishedWith":                             testAnEventIsFoundByWhatItWasPublishedWith,
	"MovesAreListedOnceInOrder":                                          testMovesAreListedOnceInOrder,
	"WhatIsExpungedIsGoneAndStaysKnown":                                  testWhatIsExpungedIsGoneAndStaysKnown,
	"WhatIsOldAndEndedExpires":                                           testWhatIsOldAndEndedExpires,
	"ALogThatWasDroppedSaysSoUntilItIsComplete":                          testALogThatWasDroppedSaysSoUntilItIsComplete,
	"PagesNeitherRepeatNorSkipWhileRowsArrive":                           testPagesNeitherRepeatNorSkipWhileRowsArrive,
	"ApplyGivesOneResultForEveryOrderAndRepetition":                      testApplyGivesOneResultForEveryOrderAndRepetition,
	"DeliveriesArePagedNewestFirstAndFiltered":                           testDeliveriesArePagedNewestFirstAndFiltered,
	"AnotherAccountSeesNothing":                                          testAnotherAccountSeesNothing,
	"ATestAttemptIsRecordedWithoutADelivery":                             testATestAttemptIsRecordedWithoutADelivery,
	"TheLatestSeriesDecidesInEveryOrderAndRepetition":                    testTheLatestSeriesDecidesInEveryOrderAndRepetition,
	"ARedrivenDeliveryIsPendingAgainAndAFailedManualRetryChangesNothing": testARedrivenDeliveryIsPendingAgainAndAFailedManualRetryChangesNothing,
	"TheLedgerCountsRowsHoweverTheEntriesCome":                           testTheLedgerCountsRowsHoweverTheEntriesCome,
	"ADeliveryThatRoutingDidNotNameIsNotRouted":                          testADeliveryThatRoutingDidNotNameIsNotRouted,
	"AttemptsAreAlikeWhereverTheyAreKept":                                testAttemptsAreAlikeWhereverTheyAreKept,
	"AnEarlyAttemptOfAnEventRoutedTwiceIsFound":                          testAnEarlyAttemptOfAnEventRoutedTwiceIsFound,
	"AttemptsAreCountedOnceHoweverOftenTheyAreRecorded":                  testAttemptsAreCountedOnceHoweverOftenTheyAreRecorded,
}

func run(t *testing.T, open opener) {
	t.Helper()
	for name, test := range suite {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	run(t, openSQLite)
}

func openSQLite(t testing.TB) logstore.Store {
	t.Helper()
	s, err := logstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "log.db"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.SetIncomplete(t.Context(), s.Token(), 0))
	return s
}
