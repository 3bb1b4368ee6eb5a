import type { components } from './schema'

type Schemas = components['schemas']
export type ItemCard = Schemas['ItemCard']
export type RecommendedCard = Schemas['RecommendedCard']
export type Recommendation = Schemas['RecommendData']
export type Source = Recommendation['items'][number]['source']
export type Profile = Schemas['ProfileData']
export type PastEvent = Schemas['PastEventCard']
export type SampledUser = Schemas['SampledUser']
export type SimilarCard = Schemas['SimilarCard']
export type Action = Schemas['Action']

interface Envelope<T> {
  code: number
  message: string
  data: T
  trace_id: string
}

/** What the service said went wrong, or that it could not be reached. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly code: number,
    readonly traceId: string | null,
  ) {
    super(message)
  }
}

/** What the service answers where it wants a key, or a key that may do more. */
const KEY_CODES = [20009, 20010]
/** What may pass with time: a body that came too slowly, more requests than agreed. */
const PASSING_CODES = [20007, 20011]
const KEY_NAME = 'asterism-key'
/** So long an answer may take; a request that hangs holds up all that wait behind it. */
const PATIENCE_MS = 15_000

/** Whether an error is cured by another key. */
export function wantsKey(error: ApiError | null): boolean {
  return error !== null && KEY_CODES.includes(error.code)
}

/** Whether the same request may succeed later: no where the request itself is wrong. */
export function mayPass(error: ApiError): boolean {
  const isRequest = error.code >= 20000 && error.code < 30000
  return !isRequest || wantsKey(error) || PASSING_CODES.includes(error.code)
}

export function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(String(error), -1, null)
}

/** Whether a text may stand in a request's header as a key. */
export function isKey(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text)
}

/** Send a key with every request of this tab from now on; it is gone with the tab, or once the service refuses it. */
export function setKey(key: string) {
  sessionStorage.setItem(KEY_NAME, key)
}

function forgetKey(key: string | null) {
  // A late answer to an older key says nothing about the one that was given since.
  if (sessionStorage.getItem(KEY_NAME) === key) sessionStorage.removeItem(KEY_NAME)
}

function headers(hasBody: boolean, key: string | null): Record<string, string> {
  return {
    ...(hasBody ? { 'content-type': 'application/json' } : {}),
    ...(key ? { authorization: `Bearer ${key}` } : {}),
  }
}

async function call<T>(path: string, body?: unknown): Promise<T> {
  const key = sessionStorage.getItem(KEY_NAME)
  const envelope = await answer<T>(path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: headers(body !== undefined, key),
    body: body === undefined ? null : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE_MS),
  })
  if (envelope.code === 0) return envelope.data
  const error = new ApiError(envelope.message, envelope.code, envelope.trace_id)
  if (wantsKey(error)) forgetKey(key)
  throw error
}

async function answer<T>(path: string, request: RequestInit): Promise<Envelope<T>> {
  let status: number | null = null
  try {
    const response = await fetch(path, request)
    status = response.status
    const envelope: Envelope<T> | null = await response.json()
    if (typeof envelope?.code === 'number') return envelope
  } catch (error) {
    if (error instanceof DOMException && error.name === 'TimeoutError') {
      throw new ApiError(`The service did not answer within ${PATIENCE_MS / 1000} seconds.`, -1, null)
    }
  }
  if (status === null) throw new ApiError('The service cannot be reached. Is it running?', -1, null)
  throw new ApiError(`HTTP ${status}, but not from the service: something in between answered. Is the service running?`, -1, null)
}

export function recommend(userId: string, count: number): Promise<Recommendation> {
  return call('/api/v1/recommend', { user_id: userId, count, scene: 'page', explain: true })
}

/** What somebody did to an item; the event id lets it be sent twice and count once. */
export interface Step {
  userId: string
  item: ItemCard
  action: Action
  attributionId: string | null
  eventId: string
}

export function sendFeedback(step: Step) {
  return call<Schemas['FeedbackData']>('/api/v1/feedback', {
    user_id: step.userId,
    item_id: step.item.item_id,
    action: step.action,
    event_id: step.eventId,
    scene: 'page',
    ...(step.attributionId ? { attribution_id: step.attributionId } : {}),
  })
}

/** The user's profile, or null for somebody who has done nothing yet. */
export async function profile(userId: string): Promise<Profile | null> {
  try {
    return await call<Profile>(`/api/v1/user/${encodeURIComponent(userId)}/profile?count=24`)
  } catch (error) {
    if (error instanceof ApiError && error.code === 20003) return null
    throw error
  }
}

export async function sampleUsers(limit: number): Promise<SampledUser[]> {
  return (await call<{ users: SampledUser[] }>(`/api/v1/users/sample?limit=${limit}`)).users
}

export async function similar(itemId: string, count: number): Promise<SimilarCard[]> {
  return (await call<{ items: SimilarCard[] }>(`/api/v1/similar/${encodeURIComponent(itemId)}?count=${count}`)).items
}
