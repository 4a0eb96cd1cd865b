// Types of the part of dcmjs that parse.ts uses; the package brings none.
declare module 'dcmjs' {
  interface Logger {
    setLevel(level: string, persist?: boolean): void
    getLoggers(): Record<string, { setLevel(level: string, persist?: boolean): void }>
  }
  interface DcmjsElement {
    vr: string
    Value?: unknown[]
  }
  const log: Logger
  const data: {
    DicomMessage: {
      readFile(
        buffer: ArrayBuffer,
        options?: { ignoreErrors?: boolean; noCopy?: boolean },
      ): { meta: Record<string, DcmjsElement>; dict: Record<string, DcmjsElement> }
    }
  }

  export { data, log }
}
