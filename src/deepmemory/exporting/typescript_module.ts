/**
 * What a Deep Memory layer does to a search, in TypeScript without dependencies.
 *
 *     import { readFile } from "node:fs/promises"; // or fetch(...).then((reply) => reply.arrayBuffer())
 *     const memory = DeepMemory.of(await readFile("layer.safetensors"));
 *     const moved = memory.transform(query); // search with this vector instead of the query's
 *     const hits = memory.rerank(query, found, 10); // what labelled documents among the hits get on top
 *     const best = await memory.search(query, 10, nearest, fetchVectors); // both, and what was not returned is fetched
 *
 * The score of a document d for a query x:
 *
 *     x' = (x + x A) / |x + x A|
 *     score = x' . d + [d is labelled] * (prior + gain * max(0, nearest(x, d) - threshold)) + words(x, d)
 */

export type Vector = ArrayLike<number>;
export type Hit = { id: string; score: number };
export type TextScores = ReadonlyMap<string, number>;

type Numbers = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;

const MARGIN = 10;
const MARGIN_WITH_WORDS = 40;

export class DeepMemory {
  /** Length of the queries that it takes. */
  readonly takes: number;
  /** Length of the vectors that it gives. */
  readonly dimensions: number;
  /** How documents are compared: "cosine" or "dot". */
  readonly distance: "cosine" | "dot";
  /** The labelled documents. */
  readonly documentIds: readonly string[];

  private readonly arrays: ReadonlyMap<string, Numbers>;
  private readonly placeOf: ReadonlyMap<string, number>;
  private readonly prior: number;

  private constructor(arrays: ReadonlyMap<string, Numbers>) {
    this.arrays = arrays;
    this.dimensions = this.number("dimensions");
    this.takes = (arrays.get("whole")?.length ?? this.dimensions ** 2) / this.dimensions;
    this.distance = this.number("is_dot") ? "dot" : "cosine";
    this.documentIds = idsOf(arrays);
    this.placeOf = new Map(this.documentIds.map((id, place) => [id, place]));
    this.prior = this.number("prior");
  }

  /** Read a layer's safetensors file: what `deepmemory export --format typescript` writes beside this module. */
  static of(file: ArrayBuffer | Uint8Array): DeepMemory {
    return new DeepMemory(readSafetensors(file));
  }

  /** The query moved, of length 1. */
  transform(query: Vector): Float32Array {
    this.check(query);
    // "whole" and "offset" are there where queries come from another model than the documents
    const matrix = this.arrays.get("whole") ?? this.arrays.get("matrix");
    const moved = Float64Array.from((this.arrays.get("offset") as Float32Array | undefined) ?? query);
    if (matrix !== undefined) {
      for (let row = 0; row < this.takes; row++) {
        const value = query[row] as number;
        const start = row * this.dimensions;
        for (let column = 0; column < this.dimensions; column++) {
          moved[column] = (moved[column] as number) + value * Number(matrix[start + column]);
        }
      }
    }
    return Float32Array.from(unit(moved));
  }

  /** What labelled documents get beside their similarity, by id, where it isn't 0. */
  bonus(query: Vector): Map<string, number> {
    const added = this.added(query);
    const named = this.documentIds.map((id, place): [string, number] => [id, added[place] as number]);
    return new Map(named.filter(([, value]) => value !== 0));
  }

  /** What hits of a full-text search get; it has to be the same search that the layer was trained with. */
  words(textScores?: TextScores): Map<string, number> {
    const numbers = this.arrays.get("words");
    if (numbers === undefined || textScores === undefined) return new Map();
    const weight = Number(numbers[0]);
    const floor = [...textScores.values()].sort((a, b) => b - a)[Number(numbers[1])] ?? 0;
    const above = [...textScores].filter(([, score]) => score > floor);
    return new Map(above.map(([id, score]) => [id, weight * (score - floor)]));
  }

  /**
   * Add the layer's prior, memory and words to hits, and put them in order; equal scores by id.
   *
   * The hits' scores are similarities to `transform(query)`. Take some more than k: those just below are what a bonus
   * lifts.
   */
  rerank(query: Vector, hits: readonly Hit[], k: number = hits.length, textScores?: TextScores): Hit[] {
    return bestFirst(this.raised(hits, this.added(query), this.words(textScores))).slice(0, k);
  }

  /**
   * Search with all that the layer has; with an exact engine it is the exact ranking.
   *
   * @param nearest your engine: from a vector and a number the nearest documents, best first, with their similarities
   * @param fetchVectors from ids the vectors of those that exist, under the same filter
   */
  async search(
    query: Vector,
    k: number,
    nearest: (vector: Float32Array, k: number) => Promise<readonly Hit[]>,
    fetchVectors: (ids: readonly string[]) => Promise<ReadonlyMap<string, Vector>>,
    textScores?: TextScores,
  ): Promise<Hit[]> {
    const moved = this.transform(query);
    const added = this.added(query);
    const words = this.words(textScores);
    const first = k + (words.size > 0 ? MARGIN_WITH_WORDS : MARGIN);
    let depth = first;
    let hits = await nearest(moved, depth);
    while (this.prior < 0 && hits.length >= depth) {
      // whatever follows the last hit can't belong among the first k
      if ((hits[hits.length - 1] as Hit).score <= kth(this.raised(hits, added, words), k)) break;
      depth *= 2;
      hits = await nearest(moved, depth);
    }
    const wanted = hits.length < first ? [] : this.proposals(moved, hits, k, added, words);
    const fetched: Hit[] = [];
    for (const [id, vector] of wanted.length > 0 ? await fetchVectors(wanted) : []) {
      fetched.push({ id, score: this.similarity(vector, moved) });
    }
    return bestFirst(this.raised([...hits, ...fetched], added, words)).slice(0, k);
  }

  private added(query: Vector): Float64Array {
    this.check(query);
    const added = new Float64Array(this.documentIds.length);
    const keys = this.arrays.get("memory.keys");
    if (keys === undefined) return added.fill(this.prior);
    const [threshold, gain, isTransformed] = [...this.get("memory.numbers")].map(Number) as [number, number, number?];
    const centre = this.get("memory.centre");
    const seen = isTransformed === 1 ? this.transform(query) : unit(Float64Array.from(query));
    const direction = unit(Float64Array.from(seen, (value, column) => value - Number(centre[column])), 1e-12);
    const pairKey = this.get("memory.pair_key");
    const pairDocument = this.get("memory.pair_document");
    const pairWeight = this.get("memory.pair_weight");
    const cosines = new Float64Array(keys.length / this.dimensions);
    cosines.forEach((_, key) => (cosines[key] = dot(keys, direction, key * this.dimensions)));
    for (let pair = 0; pair < pairKey.length; pair++) {
      const above = (cosines[Number(pairKey[pair])] as number) * Number(pairWeight[pair]) - threshold;
      const place = Number(pairDocument[pair]);
      added[place] = Math.max(added[place] as number, above);
    }
    return added.map((above) => this.prior + gain * above);
  }

  private raised(hits: readonly Hit[], added: Float64Array, words: ReadonlyMap<string, number>): Hit[] {
    return hits.map(({ id, score }) => ({ id, score: score + this.addedTo(id, added, words) }));
  }

  private addedTo(id: string, added: Float64Array, words: ReadonlyMap<string, number>): number {
    const place = this.placeOf.get(id);
    return (place === undefined ? 0 : (added[place] as number)) + (words.get(id) ?? 0);
  }

  /** Documents that the engine did not return, and that may belong among the first k. */
  private proposals(
    moved: Float32Array,
    hits: readonly Hit[],
    k: number,
    added: Float64Array,
    words: ReadonlyMap<string, number>,
  ): string[] {
    const limit = kth(this.raised(hits, added, words), k);
    const last = (hits[hits.length - 1] as Hit).score;
    const returned = new Set(hits.map(({ id }) => id));
    const lifted = new Set([...this.documentIds.filter((_, place) => (added[place] as number) > 0), ...words.keys()]);
    return [...lifted].filter((id) => {
      const place = this.placeOf.get(id);
      const score = place === undefined ? last : this.similarity(this.documentVector(place), moved);
      return !returned.has(id) && score + this.addedTo(id, added, words) >= limit;
    });
  }

  private documentVector(place: number): Vector {
    const vectors = this.get("document_vectors") as Float32Array;
    return vectors.subarray(place * this.dimensions, (place + 1) * this.dimensions);
  }

  private similarity(vector: Vector, moved: Float32Array): number {
    const row = Float64Array.from(vector);
    return dot(this.distance === "cosine" ? unit(row) : row, moved);
  }

  private check(query: Vector): void {
    if (query.length !== this.takes) {
      throw new RangeError(`a query should have ${this.takes} dimensions; it has ${query.length}`);
    }
    if (!Array.prototype.every.call(query, Number.isFinite)) throw new RangeError("a query holds NaN or infinity");
  }

  private get(name: string): Numbers {
    const array = this.arrays.get(name);
    if (array === undefined) throw new Error(`the layer's file lacks the array ${name}`);
    return array;
  }

  private number(name: string): number {
    return Number(this.get(name)[0]);
  }
}

/** The vector at length 1; zeros where it is no longer than `least`. */
function unit(vector: Float64Array, least: number = 0): Float64Array {
  const norm = Math.sqrt(dot(vector, vector));
  return vector.map((value) => (norm > least ? value / norm : 0));
}

function dot(rows: ArrayLike<number | bigint>, vector: ArrayLike<number>, start: number = 0): number {
  let sum = 0;
  for (let column = 0; column < vector.length; column++) sum += Number(rows[start + column]) * (vector[column] as number);
  return sum;
}

function kth(hits: readonly Hit[], k: number): number {
  return hits.map(({ score }) => score).sort((a, b) => b - a)[k - 1] as number;
}

function bestFirst(hits: Hit[]): Hit[] {
  return hits.sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
}

function idsOf(arrays: ReadonlyMap<string, Numbers>): string[] {
  const rows = arrays.get("document_rows");
  if (rows !== undefined) return Array.from(rows as BigInt64Array, String);
  const bytes = arrays.get("document_id_bytes") as Uint8Array | undefined;
  const ends = Array.from((arrays.get("document_id_ends") ?? []) as BigInt64Array, Number);
  const text = new TextDecoder("utf-8", { ignoreBOM: true });
  return ends.map((end, place) => text.decode(bytes?.subarray(ends[place - 1] ?? 0, end)));
}

/** https://huggingface.co/docs/safetensors: the header's length, a header in JSON, the arrays. */
function readSafetensors(file: ArrayBuffer | Uint8Array): Map<string, Numbers> {
  // Node's Buffer is a Uint8Array whose slice() makes no copy, so its bytes are looked at as a plain one.
  const bytes = "buffer" in file ? new Uint8Array(file.buffer, file.byteOffset, file.byteLength) : new Uint8Array(file);
  const start = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const arrays = new Map<string, Numbers>();
  for (const [name, { dtype, data_offsets: offsets }] of Object.entries<any>(header)) {
    if (name === "__metadata__") continue;
    const data = bytes.slice(start + offsets[0], start + offsets[1]).buffer; // a copy, aligned as its numbers must be
    arrays.set(name, typed(dtype, data));
  }
  return arrays;
}

function typed(dtype: string, data: ArrayBuffer): Numbers {
  switch (dtype) {
    case "F32":
      return new Float32Array(data);
    case "F64":
      return new Float64Array(data);
    case "I32":
      return new Int32Array(data);
    case "I64":
      return new BigInt64Array(data);
    case "U8":
      return new Uint8Array(data);
    default:
      throw new Error(`the layer's file has an array of the type ${dtype}, which this module doesn't know`);
  }
}
