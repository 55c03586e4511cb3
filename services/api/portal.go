package api

import postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

// portalMethods are those that a portal link opens: the webhooks of its account, with their secrets,
// the catalogue, deliveries, tests and replays. Keys, settings and the catalogue's own changes are
// not among them.
func portalMethods() map[string]bool {
	open := make(map[string]bool)
	for _, method := range []string{
		postriderv1.AccountService_GetCaller_FullMethodName,
		postriderv1.AccountService_GetAccount_FullMethodName,
		postriderv1.WebhookService_CreateWebhook_FullMethodName,
		postriderv1.WebhookService_GetWebhook_FullMethodName,
		postriderv1.WebhookService_ListWebhooks_FullMethodName,
		postriderv1.WebhookService_UpdateWebhook_FullMethodName,
		postriderv1.WebhookService_DeleteWebhook_FullMethodName,
		postriderv1.WebhookService_PauseWebhook_FullMethodName,
		postriderv1.WebhookService_ResumeWebhook_FullMethodName,
		postriderv1.WebhookService_RotateWebhookSecret_FullMethodName,
		postriderv1.WebhookService_GetWebhookSecrets_FullMethodName,
		postriderv1.WebhookService_TestWebhook_FullMethodName,
		postriderv1.WebhookService_VerifyWebhook_FullMethodName,
		postriderv1.WebhookService_HandshakeWebhook_FullMethodName,
		postriderv1.WebhookService_ExplainMatch_FullMethodName,
		postriderv1.WebhookService_GetWebhookBacklog_FullMethodName,
		postriderv1.WebhookService_GetWebhookHealth_FullMethodName,
		postriderv1.EventTypeService_GetEventType_FullMethodName,
		postriderv1.EventTypeService_ListEventTypes_FullMethodName,
		postriderv1.DeliveryService_GetDelivery_FullMethodName,
		postriderv1.DeliveryService_ListDeliveries_FullMethodName,
		postriderv1.DeliveryService_ListAttempts_FullMethodName,
		postriderv1.DeliveryService_CancelDelivery_FullMethodName,
		postriderv1.DeliveryService_CancelEvent_FullMethodName,
		postriderv1.DeliveryService_RetryDelivery_FullMethodName,
		postriderv1.DeliveryService_GetDeadLetter_FullMethodName,
		postriderv1.DeliveryService_ListDeadLetters_FullMethodName,
		postriderv1.DeliveryService_SummarizeDeadLetters_FullMethodName,
		postriderv1.ReplayService_CreateReplay_FullMethodName,
		postriderv1.ReplayService_RedriveDeadLetters_FullMethodName,
		postriderv1.ReplayService_GetReplay_FullMethodName,
		postriderv1.ReplayService_ListReplays_FullMethodName,
		postriderv1.ReplayService_AbortReplay_FullMethodName,
		postriderv1.LedgerService_GetLedger_FullMethodName,
		postriderv1.LogService_LookUp_FullMethodName,
		postriderv1.LogService_ListRecordedEvents_FullMethodName,
		postriderv1.LogService_GetFlightRecord_FullMethodName,
		postriderv1.ActivityService_GetActivity_FullMethodName,
	} {
		open[method] = true
	}
	return open
}
