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
const KEY_NAME = 'asterism-key'

/** Whether an error is cured by another key. */
export function wantsKey(error: unknown): boolean {
  return error instanceof ApiError && KEY_CODES.includes(error.code)
}

/** Send a key with every request of this tab from now on; it is gone with the tab. */
export function setKey(key: string) {
  sessionStorage.setItem(KEY_NAME, key)
}

function headers(hasBody: boolean): Record<string, string> {
  const key = sessionStorage.getItem(KEY_NAME)
  return {
    ...(hasBody ? { 'content-type': 'application/json' } : {}),
    ...(key ? { authorization: `Bearer ${key}` } : {}),
  }
}

async function call<T>(path: string, body?: unknown): Promise<T> {
  let response: Response
  try {
    response = await fetch(path, {
      method: body === undefined ? 'GET' : 'POST',
      headers: headers(body !== undefined),
      body: body === undefined ? null : JSON.stringify(body),
    })
  } catch {
    throw new ApiError('The service cannot be reached. Is it running?', -1, null)
  }
  const envelope = (await response.json()) as Envelope<T>
  if (envelope.code !== 0) throw new ApiError(envelope.message, envelope.code, envelope.trace_id)
  return envelope.data
}

export function recommend(userId: string, count: number): Promise<Recommendation> {
  return call('/api/v1/recommend', { user_id: userId, count, scene: 'page', explain: true })
}

export function sendFeedback(userId: string, itemId: string, action: Action, attributionId: string | null) {
  const event_id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`
  const attribution = attributionId ? { attribution_id: attributionId } : {}
  return call<Schemas['FeedbackData']>('/api/v1/feedback', {
    user_id: userId,
    item_id: itemId,
    action,
    event_id,
    scene: 'page',
    ...attribution,
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
