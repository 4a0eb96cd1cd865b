// The part of the ONNX file format that our graphs use, as a Protocol Buffers schema of our own, its encoder and, for looking at our
// files, a decoder. Field numbers are those of onnx.proto (onnx.ai, IR version 8). onnxruntime reads the files that are run.
import protobuf from 'protobufjs'
import { ExportError } from '../errors.js'

const SCHEMA = `
syntax = "proto2";
message Attribute {
  optional string name = 1;
  optional float f = 2;
  optional int64 i = 3;
  optional bytes s = 4;
  repeated float floats = 7;
  repeated int64 ints = 8;
  optional int32 type = 20;
}
message Node {
  repeated string input = 1;
  repeated string output = 2;
  optional string name = 3;
  optional string opType = 4;
  repeated Attribute attribute = 5;
  optional string docString = 6;
}
message Tensor {
  repeated int64 dims = 1;
  optional int32 dataType = 2;
  optional string name = 8;
  optional bytes rawData = 9;
}
message Dimension {
  optional int64 dimValue = 1;
  optional string dimParam = 2;
}
message Shape { repeated Dimension dim = 1; }
message TensorType {
  optional int32 elemType = 1;
  optional Shape shape = 2;
}
message Type { optional TensorType tensorType = 1; }
message ValueInfo {
  optional string name = 1;
  optional Type type = 2;
  optional string docString = 3;
}
message Graph {
  repeated Node node = 1;
  optional string name = 2;
  repeated Tensor initializer = 5;
  optional string docString = 10;
  repeated ValueInfo input = 11;
  repeated ValueInfo output = 12;
  repeated ValueInfo valueInfo = 13;
}
message OperatorSet {
  optional string domain = 1;
  optional int64 version = 2;
}
message Entry {
  optional string key = 1;
  optional string value = 2;
}
message Model {
  optional int64 irVersion = 1;
  optional string producerName = 2;
  optional string producerVersion = 3;
  optional string docString = 6;
  optional Graph graph = 7;
  repeated OperatorSet opsetImport = 8;
  repeated Entry metadataProps = 14;
}`

const Model = protobuf.parse(SCHEMA).root.lookupType('Model')

/** TensorProto.DataType numbers of the types we write. */
export const ELEMENT_TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
} as const
export type ElementType = keyof typeof ELEMENT_TYPES

/** AttributeProto.AttributeType numbers. */
export const ATTRIBUTE_TYPES = { float: 1, int: 2, string: 3, floats: 6, ints: 7 } as const

export interface AttributeMessage {
  name: string
  type: number
  f?: number
  i?: number
  s?: Uint8Array
  floats?: number[]
  ints?: number[]
}

export interface NodeMessage {
  input: string[]
  output: string[]
  name: string
  opType: string
  attribute: AttributeMessage[]
  docString?: string
}

export interface TensorMessage {
  name: string
  dims: number[]
  dataType: number
  rawData: Uint8Array
}

export interface ValueInfoMessage {
  name: string
  type: { tensorType: { elemType: number; shape: { dim: ({ dimValue: number } | { dimParam: string })[] } } }
  docString?: string
}

export interface ModelMessage {
  irVersion: number
  producerName: string
  producerVersion: string
  docString: string
  graph: {
    name: string
    docString: string
    node: NodeMessage[]
    initializer: TensorMessage[]
    input: ValueInfoMessage[]
    output: ValueInfoMessage[]
    valueInfo: ValueInfoMessage[]
  }
  opsetImport: { domain: string; version: number }[]
  metadataProps: { key: string; value: string }[]
}

/** Serialises a model. Throws ExportError ONNX_UNSUPPORTED at 2 GiB, the limit of one Protocol Buffers message. */
export function encodeModel(model: ModelMessage): Uint8Array {
  const weights = model.graph.initializer.reduce((sum, tensor) => sum + tensor.rawData.byteLength, 0)
  if (weights >= 2 ** 31) {
    throw new ExportError('ONNX_UNSUPPORTED', `expected weights below 2 GiB in one ONNX file, got ${weights} bytes`, {
      fix: 'export a smaller backbone',
    })
  }
  return Model.encode(model).finish()
}

/** Reads a file that `encodeModel` wrote; fields that we never write are left out. Throws for bytes that are no such message. */
export function decodeModel(bytes: Uint8Array): ModelMessage {
  return Model.toObject(Model.decode(bytes), { longs: Number, arrays: true }) as ModelMessage
}
