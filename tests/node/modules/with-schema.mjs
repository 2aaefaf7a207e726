import { z } from 'zod';

export const schema = z.object({ n: z.number(), at: z.coerce.date().optional(), factor: z.number().default(2) });

export default ({ n, at, factor }) => ({ product: n * factor, isDate: at instanceof Date });
